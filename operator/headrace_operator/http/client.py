"""The backend's questions to workers and router over HTTP; every one has a deadline."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from headrace_api.handoff import Dead, authorization
from headrace_api.names import HEADER_DISAGGREGATE, HEADER_PREFILL, HEADER_PREFILL_WORKERS, KV_TRANSFER_BYTES
from headrace_operator.http.connection import Answer, ExchangeError
from headrace_operator.http.exchange import Conversation, exchange
from headrace_operator.observed import Progress

_SAMPLE = re.compile(rf"^{KV_TRANSFER_BYTES}_total\{{(?P<labels>[^}}]*)\}} (?P<value>\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Readiness:
    """An answer to a worker's `GET /ready`, or to a router's `GET /health`."""

    ready: bool
    progress: Progress | None = None
    workers: frozenset[str] = frozenset()
    """URLs of the workers that a router has in its list."""


class Client:
    """Asks workers and the router.

    Args:
        deadline_s: for a short question; an answer that does not come in time is None, not an exception.
        conversation: keeps the connections; None: each question has one of its own.
    """

    def __init__(self, deadline_s: float, conversation: Conversation | None = None) -> None:
        self._deadline_s = deadline_s
        self._exchange = exchange if conversation is None else conversation.exchange

    @contextmanager
    def talking(self) -> Iterator["Client"]:
        """Give a client that asks the same processes several times in a row, for as long as the context lasts."""
        with Conversation() as conversation:
            yield Client(self._deadline_s, conversation)

    async def readiness(self, url: str) -> Readiness | None:
        """Return what the process says at `url`; None where it does not answer."""
        answer = await self._ask(url)
        if answer is None:
            return None
        if answer.status == 200:
            return Readiness(ready=True, workers=_listed(answer.body))
        return Readiness(ready=False, progress=_progress(answer.body))

    async def announce_end(self, url: str, dead: Dead, secret: str) -> bool:
        """Tell the worker at `url`, whose deployment's secret this is, that these processes have ended.

        Return whether it took note.
        """
        headers = {"authorization": authorization(secret)}
        answer = await self._ask(f"{url}/handoff/dead", msgspec.json.encode(dead), headers)
        return answer is not None and answer.status in range(200, 300)

    async def transferred_bytes(self, url: str, direction: str) -> int | None:
        """Return the worker's count of KV bytes in that direction; None where it does not answer."""
        answer = await self._ask(f"{url}/metrics")
        if answer is None or answer.status != 200:
            return None
        return sum_transferred(answer.body.decode(errors="replace"), direction)

    async def complete(
        self, decode_url: str, prefill_url: str, model: str, prompt_ids: list[int], deadline_s: float
    ) -> tuple[int, str, str]:
        """Run a short completion through both workers; return the status, who prefilled it, and the body's start.

        Raises:
            ExchangeError: no answer within the deadline.
        """
        body = {"model": model, "prompt": prompt_ids, "max_tokens": 2, "temperature": 0, "seed": 0}
        headers = {HEADER_PREFILL_WORKERS: prefill_url, HEADER_DISAGGREGATE: "always"}
        answer = await self._exchange(
            f"{decode_url}/v1/completions", deadline_s=deadline_s, body=json.dumps(body).encode(), headers=headers
        )
        return answer.status, answer.headers.get(HEADER_PREFILL, ""), answer.body[:500].decode(errors="replace")

    async def _ask(
        self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        try:
            return await self._exchange(url, deadline_s=self._deadline_s, body=body, headers=headers)
        except ExchangeError:
            return None


def sum_transferred(metrics: str, direction: str) -> int:
    """Return the sum of the transfer counter's samples in that direction, from a page of metrics."""
    label = f'direction="{direction}"'
    return sum(int(float(sample["value"])) for sample in _SAMPLE.finditer(metrics) if label in sample["labels"])


def _listed(body: bytes) -> frozenset[str]:
    """Return the URLs of the workers in a router's answer; none where the answer is something else."""
    try:
        models = json.loads(body)["models"]
        return frozenset(url for roles in models.values() for urls in roles.values() for url in urls)
    except (ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def _progress(body: bytes) -> Progress | None:
    """Return how far the worker says it is; None where it says nothing of the kind."""
    try:
        content = json.loads(body)
        return Progress(str(content["phase"]), int(content.get("done", 0)), int(content.get("total", 0)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
