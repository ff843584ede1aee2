"""Clients of the disturbed service: each asks again and again, and every answer is held against what is known."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.soak.answers import MODEL, MOST_TOKENS, Known
from tests.soak.journal import Journal
from tests.soak.plan import pick
from tests.soak.wire import Answer, CutError, post

from headrace_api import names

ANSWER_S = 420.0
"""Above every deadline of the router: what takes longer is lost."""
ABSENT_S = 0.1
DYING_S = 2.0
"""A connection made so soon after the router was killed may still have been taken by the dying process."""


class RefusedError(Exception):
    """The service said why it does not answer."""


@dataclass(slots=True)
class Tally:
    """How requests ended."""

    answered: int = 0
    streamed: int = 0
    cancelled: int = 0
    cut_with_router: int = 0
    """Their connection broke because the router was killed: clients see that, and send them again."""
    refused: Counter[str] = field(default_factory=Counter)
    """By the reason that was stated."""
    faults: list[str] = field(default_factory=list)
    """Wrong answers, cuts without a reason, requests that got no answer at all."""

    @property
    def ended(self) -> int:
        """All of them."""
        return self.answered + self.cancelled + self.cut_with_router + self.refused.total() + len(self.faults)


@dataclass(frozen=True, slots=True)
class Got:
    """What came back for one request."""

    tokens: tuple[str, ...]
    finish: str | None
    prefill: str
    decode: str


class Load:
    """Clients that keep a service busy.

    Args:
        url: of the router.
        known: prompts and their answers.
        seed: of which prompt is asked when.
        journal: told of what goes wrong.
    """

    def __init__(self, url: str, known: Sequence[Known], seed: int, journal: Journal) -> None:
        self.tally = Tally()
        self.router_killed_s = -DYING_S
        """When the router was killed last, in seconds of the journal."""
        self.sent = 0
        self._url = f"{url}/v1/completions"
        self._known = known
        self._dice = random.Random(seed)
        self._journal = journal
        self._running: dict[int, asyncio.Task[Got]] = {}
        self._closing = False

    @property
    def running(self) -> int:
        """Requests under way."""
        return len(self._running)

    def cancel(self, chance: float) -> bool:
        """Have one of the clients leave in the middle of its answer; False where none is there."""
        task = pick(chance, list(self._running.values()))
        return task is not None and task.cancel()

    def close(self) -> None:
        """Send nothing new; `run` returns when what runs has ended."""
        self._closing = True

    async def run(self, clients: int) -> None:
        """Ask until `close`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())

    async def round(self) -> None:
        """Ask every prompt once, four at a time."""
        waiting = list(self._known)

        async def take() -> None:
            while waiting:
                await self._ask(waiting.pop(), MOST_TOKENS, stream=len(waiting) % 2 == 0)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(take())

    async def _client(self) -> None:
        while not self._closing:
            known, tokens = self._dice.choice(self._known), self._dice.randint(1, MOST_TOKENS)
            await self._ask(known, tokens, stream=self._dice.random() < 0.5)

    async def _ask(self, known: Known, tokens: int, *, stream: bool) -> None:
        """Ask once and note how it ended."""
        self.sent = number = self.sent + 1
        began_s, tally = self._journal.now_s, self.tally
        task = self._running[number] = asyncio.ensure_future(self._answer(known, tokens, stream=stream))
        try:
            got = await task
        except asyncio.CancelledError:
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
            tally.cancelled += 1
        except RefusedError as error:
            tally.refused[str(error)] += 1
            self._journal.note("soak", f"request {number} was refused: {error}")
        except CutError as error:
            if self.router_killed_s + DYING_S >= began_s:
                tally.cut_with_router += 1
            else:
                self._fault(number, f"was cut without a reason: {error!r}")
        except TimeoutError:
            self._fault(number, f"had no answer after {ANSWER_S:g} s")
        else:
            tally.answered += 1
            tally.streamed += stream
            self._judge(number, known, tokens, got)
        finally:
            del self._running[number]

    def _judge(self, number: int, known: Known, tokens: int, got: Got) -> None:
        if got.tokens != known.tokens[:tokens] or got.finish != "length":
            self.tally.answered -= 1
            pairs = zip(got.tokens, known.tokens, strict=False)
            same = next((at for at, (came, wanted) in enumerate(pairs) if came != wanted), None)
            self._fault(
                number,
                f"was answered wrongly: {len(known.prompt)} tokens of prompt, {tokens} asked for, {len(got.tokens)} "
                f"came, the first other one at {same}, finish {got.finish!r}, by {got.prefill} and {got.decode}",
            )

    def _fault(self, number: int, what: str) -> None:
        self.tally.faults.append(f"request {number} {what}")
        self._journal.note("soak", f"request {number} {what}")

    async def _answer(self, known: Known, tokens: int, *, stream: bool) -> Got:
        """Send one request as soon as somebody listens: a router that was killed is back after a second or two."""
        body = {
            "model": MODEL,
            "prompt": list(known.prompt),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": 1,
            "stream": stream,
        }
        async with asyncio.timeout(ANSWER_S):
            while True:
                try:
                    async with post(self._url, body) as answer:
                        return await _read(answer, stream=stream)
                except ConnectionRefusedError:
                    await asyncio.sleep(ABSENT_S)


async def _read(answer: Answer, *, stream: bool) -> Got:
    if answer.status != 200:
        raise RefusedError(_reason(answer.status, await answer.body()))
    choices = await _streamed(answer) if stream else json.loads(await answer.body())["choices"]
    told = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["tokens"]]
    prefill, decode = (answer.headers.get(name, "?") for name in (names.HEADER_PREFILL, names.HEADER_DECODE))
    return Got(tuple(told), choices[-1]["finish_reason"] if choices else None, prefill, decode)


async def _streamed(answer: Answer) -> list[dict[str, Any]]:
    """Return the choices of all events up to the end that the stream itself states."""
    choices: list[dict[str, Any]] = []
    async for line in answer.lines():
        if not line.startswith(b"data: "):
            continue
        data = line[len(b"data: ") :].strip()
        if data == b"[DONE]":
            return choices
        event = json.loads(data)
        if "error" in event:
            raise RefusedError(f"in the stream: {event['error'].get('code')}: {event['error'].get('message')}")
        choices += event["choices"]
    raise CutError("the stream ended without its last event")


def _reason(status: int, body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        raise CutError(f"status {status} without a reason: {body[:200]!r}") from None
    return f"{status} {error.get('code')}: {error.get('message')}"
