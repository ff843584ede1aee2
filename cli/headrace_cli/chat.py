"""`headrace chat`: talk to a model in the terminal."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from headrace_cli.errors import RuntimeFailure, UsageError

CONNECT_DEADLINE_S = 5.0
TOKEN_DEADLINE_S = 300.0
"""How long the next piece of an answer may take; a long prompt on a small machine needs minutes."""
HELP = "/quit leaves, /clear forgets the conversation, Ctrl-C interrupts an answer"


class AnswerError(Exception):
    """The server refused or broke off an answer; the text is its own sentence."""


def add_parser(commands: Any) -> None:
    """Add `chat` to the commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "chat",
        help="talk to a model in the terminal",
        description=f"Talk to a model behind an OpenAI-compatible address. {HELP}.",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="address of the router (default: %(default)s)")
    parser.add_argument("--model", help="model id (default: the first one that the router names)")
    parser.add_argument("--system", help="instructions for the model")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Talk until /quit, Ctrl-D or the end of standard input; return the exit status."""
    base = options.url.rstrip("/").removesuffix("/v1")
    timeout = httpx.Timeout(TOKEN_DEADLINE_S, connect=CONNECT_DEADLINE_S)
    try:
        with httpx.Client(base_url=base, timeout=timeout) as client:
            model = _choose(client, base, options.model)
            system = [{"role": "system", "content": options.system}] if options.system else []
            Conversation(client, model, system).talk()
    except httpx.InvalidURL as error:
        raise UsageError(f"--url {options.url!r} is no address: {error}") from error
    except httpx.UnsupportedProtocol as error:
        raise UsageError(f"--url {options.url!r} is no address; write it as http://HOST:PORT") from error
    except httpx.ConnectError as error:
        raise RuntimeFailure(
            f"nothing listens at {base}; start it with `headrace up FILE`, or name it by --url"
        ) from error
    except httpx.HTTPError as error:
        raise RuntimeFailure(f"{base} does not answer as expected: {type(error).__name__} {error}".rstrip()) from error
    return 0


def _choose(client: httpx.Client, base: str, wanted: str | None) -> str:
    """Return the model to talk to; raise RuntimeFailure where the router has none or not that one."""
    answer = client.get("/v1/models")
    try:
        known = [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeFailure(f"{base} is no OpenAI-compatible server: HTTP {answer.status_code}") from error
    if wanted is None and not known:
        raise RuntimeFailure(f"{base} serves no model yet; try again once it is ready")
    if wanted is not None and wanted not in known:
        raise UsageError(f"{base} has no model {wanted!r}; it serves {', '.join(known) or 'none'}")
    return wanted or known[0]


class Conversation:
    """The messages so far, and the loop that adds to them."""

    def __init__(self, client: httpx.Client, model: str, system: list[dict[str, str]]) -> None:
        self._client = client
        self._model = model
        self._system = system
        self._messages = list(system)

    def talk(self) -> None:
        """Read lines and print answers."""
        interactive = sys.stdin.isatty()
        if interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401, PLC0415 (importing it gives `input` history and editing)
            print(f"Talking to {self._model}. {HELP}.")
        while (text := _read("> " if interactive else "")) is not None:
            match text.strip():
                case "":
                    continue
                case "/quit" | "/exit":
                    return
                case "/clear":
                    self._messages = list(self._system)
                case "/help":
                    print(HELP)
                case question:
                    self._ask(question)

    def _ask(self, question: str) -> None:
        """Stream the answer to one question; what was said of an interrupted answer stays in the conversation."""
        self._messages.append({"role": "user", "content": question})
        said: list[str] = []
        try:
            for piece in self._answer():
                said.append(piece)
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" …", end="")
        except AnswerError as error:
            print(f"error: {error}", file=sys.stderr)
        except httpx.ConnectError:
            self._messages.pop()
            raise
        except httpx.HTTPError as error:
            print(f"error: the answer broke off ({type(error).__name__})", file=sys.stderr)
        print()
        if said:
            self._messages.append({"role": "assistant", "content": "".join(said)})
        else:
            self._messages.pop()

    def _answer(self) -> Iterator[str]:
        """Yield the pieces of the model's answer to the conversation."""
        body = {"model": self._model, "messages": self._messages, "stream": True}
        with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                raise AnswerError(_reason(answer.read(), answer.status_code))
            for line in answer.iter_lines():
                if line.startswith("data:") and (data := line.removeprefix("data:").strip()) != "[DONE]":
                    yield from _pieces(data)


def _pieces(data: str) -> Iterator[str]:
    """Yield the text in one event of a stream; raise AnswerError where the event is an error."""
    try:
        event = json.loads(data)
    except ValueError as error:
        raise AnswerError(f"the server sent an event that is no JSON: {data[:80]!r}") from error
    if "error" in event:
        raise AnswerError(_message(event))
    for choice in event.get("choices", ()):
        if text := choice.get("delta", {}).get("content"):
            yield text


def _reason(body: bytes, status: int) -> str:
    try:
        return _message(json.loads(body))
    except (ValueError, TypeError):
        return f"HTTP {status}"


def _message(content: dict[str, Any]) -> str:
    """Return the sentence in an OpenAI-shaped error."""
    error = content.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(error or content)


def _read(prompt: str) -> str | None:
    """Return the next line, None at the end of the input; Ctrl-C at the prompt leaves the line."""
    while True:
        try:
            return input(prompt)
        except EOFError:
            return None
        except KeyboardInterrupt:
            print(f"\n({HELP})")
