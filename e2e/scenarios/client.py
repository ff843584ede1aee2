"""A client of a model, run in a pod with nothing but Python: asks for streamed answers, prints a JSON line for each.

`first` lines come with the first piece of text of an answer, `answer` lines with its end, `end` is the last line. With
`--repeats` each request has an `Idempotency-Key`, and one that got no whole answer is sent again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 300.0
PAUSE_S = 0.5
STOP_FILE = Path("/tmp/stop")


class Client:
    """Asks from several threads at once until enough is asked, time is up, or `STOP_FILE` is there."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._deadline_s = time.monotonic() + options.seconds
        self._lock = threading.Lock()
        self._asked = 0

    def run(self) -> None:
        """Ask until it is enough; every answer that was begun is read to its end."""
        threads = [threading.Thread(target=self._loop) for _ in range(self._options.concurrency)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._say(event="end", asked=self._asked)

    def _loop(self) -> None:
        while (number := self._next()) is not None:
            answer: dict[str, Any] = {"event": "answer", "number": number, "at": time.time(), "ids": []}
            for attempt in range(1, self._options.repeats + 2):
                self._try(number, answer)
                if answer.get("done") or attempt > self._options.repeats:
                    break
                time.sleep(PAUSE_S)
            self._say(**answer, end=time.time())

    def _try(self, number: int, answer: dict[str, Any]) -> None:
        """Ask once and note what came, in place of what an earlier try noted; the ids of all tries are kept."""
        for name in answer.keys() - {"event", "number", "at", "ids"}:
            del answer[name]
        try:
            self._ask(number, answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            answer["error"] = f"{type(error).__name__}: {error}"

    def _next(self) -> int | None:
        with self._lock:
            enough = self._options.count is not None and self._asked >= self._options.count
            if enough or time.monotonic() > self._deadline_s or STOP_FILE.exists():
                return None
            self._asked += 1
            return self._asked - 1

    def _ask(self, number: int, answer: dict[str, Any]) -> None:
        options, place = self._options, urlsplit(self._options.url)
        text = prompt(number, options.words)
        asked = {"prompt": text} if options.plain else {"messages": [{"role": "user", "content": text}]}
        body = {
            "model": options.model,
            **asked,
            "max_tokens": options.tokens,
            "temperature": 0,
            "stream": True,
        }
        connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=TIMEOUT_S)
        try:
            headers = {"content-type": "application/json"}
            if options.repeats:
                headers["idempotency-key"] = f"story-{number}"
            target = "/v1/completions" if options.plain else "/v1/chat/completions"
            connection.request("POST", target, json.dumps(body), headers)
            response = connection.getresponse()
            answer["status"] = response.status
            answer["ids"].append(response.getheader("x-request-id"))
            answer["prefill"] = response.getheader("x-headrace-prefill")
            answer["decode"] = response.getheader("x-headrace-decode")
            if response.status != http.HTTPStatus.OK:
                answer["error"] = response.read().decode(errors="replace")[:1000]
                return
            self._read(response, number, answer)
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse, number: int, answer: dict[str, Any]) -> None:
        pieces: list[str] = []
        for line in response:
            if not line.startswith(b"data: "):
                continue
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                answer["done"] = True
                break
            event = json.loads(data)
            if "error" in event:
                answer["error"] = json.dumps(event["error"])
                break
            choice = event["choices"][0]
            if text := choice.get("delta", {}).get("content") or choice.get("text"):
                if not pieces:
                    self._say(event="first", number=number, at=time.time())
                pieces.append(text)
            answer["finish"] = choice.get("finish_reason") or answer.get("finish")
        answer.update(text="".join(pieces), pieces=len(pieces))

    def _say(self, **line: Any) -> None:
        with self._lock:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


def prompt(number: int, words: int) -> str:
    """Return the same prompt for the same number, unlike those of other numbers from its start on."""
    names = ("river", "mill", "wheel", "stone", "flour", "miller", "weir", "meadow", "winter", "lantern", "bridge")
    told = " ".join(names[(number * 7 + place * (place + number)) % len(names)] for place in range(words))
    return f"Story {number}: tell it with these words: {told}. Go on for as long as you can."


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a model for streamed answers.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--words", type=int, default=40)
    parser.add_argument("--plain", type=int, default=0, help="1: send no chat, for a model without a template")
    parser.add_argument(
        "--repeats", type=int, default=0, help="how often a request without a whole answer is sent again"
    )
    Client(parser.parse_args()).run()


if __name__ == "__main__":
    main()
