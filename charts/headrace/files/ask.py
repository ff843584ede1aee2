# ruff: noqa: INP001, S310, T201 - a script of a pod: it is no module, calls what the chart names, and speaks to a log
"""What `helm test` asks: `ready URL`, whether the operator is up, and `prompt URL MODEL TEXT`, a streamed answer.

Models may still be loading, so both ask again until the timeout. Needs the standard library only.
"""

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.request

PAUSE_S = 1.0
CALL_S = 60.0


class UnansweredError(Exception):
    """There was no whole answer."""


def ready(url: str) -> str:
    """Ask once; return what to tell."""
    with urllib.request.urlopen(url, timeout=CALL_S) as answer:
        answer.read()
    return "the operator is up"


def prompt(url: str, model: str, text: str, max_tokens: int) -> str:
    """Ask the model once for a streamed answer; return who gave it, and when."""
    body = {"model": model, "prompt": text, "max_tokens": max_tokens, "stream": True}
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/completions", data=json.dumps(body).encode(), headers=headers)
    started_s = time.monotonic()
    with urllib.request.urlopen(request, timeout=CALL_S) as answer:
        prefill, decode = (answer.headers.get(f"x-headrace-{role}") for role in ("prefill", "decode"))
        first_s, chunks = None, 0
        for line in answer:
            data = line.decode().strip().removeprefix("data: ")
            if data == "[DONE]":
                break
            if data and json.loads(data).get("choices"):
                first_s = first_s or time.monotonic() - started_s
                chunks += 1
        else:
            raise UnansweredError(f"the answer broke off after {chunks} parts")
    if first_s is None:
        raise UnansweredError("the answer was empty")
    return f"{model} answered in {chunks} parts, the first after {first_s:.2f} s; prefill {prefill}, decode {decode}"


def patiently(options: argparse.Namespace) -> str:
    """Ask, again and again until the timeout while there is no answer."""
    deadline_s = time.monotonic() + options.timeout
    while True:
        try:
            if options.what == "ready":
                return ready(options.url)
            return prompt(options.url, options.model, options.text, options.max_tokens)
        except urllib.error.HTTPError as error:
            said = f"status {error.code}: {error.read().decode(errors='replace')[:300]}"
            # 404 is no model of this name yet, 503 no worker of it
            if error.code not in {404, 429} and error.code < 500:
                raise UnansweredError(said) from error
            failure: Exception = UnansweredError(said)
        except (UnansweredError, OSError, ValueError, http.client.HTTPException) as error:
            failure = error
        if time.monotonic() + PAUSE_S > deadline_s:
            raise UnansweredError(
                f"no answer of {options.url} within {options.timeout:g} s; last: {failure}"
            ) from failure
        time.sleep(PAUSE_S)


def main() -> int:
    """Ask; return 1 where there was no answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds until the answer must have begun")
    parser.add_argument("--max-tokens", type=int, default=16)
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("ready").add_argument("url")
    question = what.add_parser("prompt")
    for name in ("url", "model", "text"):
        question.add_argument(name)
    try:
        print(patiently(parser.parse_args()), flush=True)
    except UnansweredError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
