"""A real hand-off between two workers, tried before they get traffic."""

import asyncio
import random
import time
from dataclasses import dataclass

from headrace_operator.desired import Template
from headrace_operator.errors import ProbeError
from headrace_operator.http.client import Client
from headrace_operator.http.connection import ExchangeError
from headrace_operator.observed import Worker

_BLOCKS = 3
_TOKENS = range(1, 100)
"""Ids that every vocabulary has."""
_METRICS_DEADLINE_S = 5.0
"""Workers count ten times a second; an answer may arrive before its bytes are counted."""
_METRICS_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Handoff:
    """A trial that worked."""

    size_bytes: int
    took_s: float


async def try_handoff(
    client: Client, prefill: Worker, decode: Worker, template: Template, deadline_s: float
) -> Handoff:
    """Send a random prompt through both workers and see its KV arrive.

    The prompt is random so that no prefix cache can answer in place of the hand-off.

    Raises:
        ProbeError: no answer, another one than expected, or no bytes moved.
    """
    if prefill.url is None or decode.url is None:
        raise ProbeError(f"{prefill.name} or {decode.name} stopped listening before the hand-off was tried")
    sides = ((prefill.name, prefill.url, "sent"), (decode.name, decode.url, "received"))
    before = [await _count(client, *side) for side in sides]
    began = time.monotonic()
    try:
        status, prefilled_by, body = await client.complete(
            decode.url, prefill.url, decode.deployment, _prompt(template), deadline_s
        )
    except ExchangeError as error:
        raise ProbeError(f"{decode.name} did not answer the trial: {error}") from error
    took_s = time.monotonic() - began
    if status != 200:
        raise ProbeError(f"{decode.name} answered the trial with HTTP {status}: {body}")
    if prefilled_by != prefill.name:
        raise ProbeError(
            f"{decode.name} says that {prefilled_by or 'nobody'!r} prefilled the trial; expected {prefill.name!r}"
        )
    grown = [await _growth(client, *side, count) for side, count in zip(sides, before, strict=True)]
    return Handoff(min(grown), took_s)


def _prompt(template: Template) -> list[int]:
    """Return more than three full blocks of random ids, or as many as the context takes."""
    length = _BLOCKS * template.block_size + 1
    if template.max_model_len is not None:
        length = min(length, template.max_model_len - 2)
    return random.SystemRandom().choices(_TOKENS, k=length)


async def _count(client: Client, name: str, url: str, direction: str) -> int:
    count = await client.transferred_bytes(url, direction)
    if count is None:
        raise ProbeError(f"{name} did not answer with its metrics")
    return count


async def _growth(client: Client, name: str, url: str, direction: str, before: int) -> int:
    """Return by how much the worker's count grew; raise ProbeError when it stays for too long."""
    deadline = time.monotonic() + _METRICS_DEADLINE_S
    while (count := await _count(client, name, url, direction)) <= before:
        if time.monotonic() > deadline:
            raise ProbeError(f"{name} counts no KV byte {direction} although the trial was answered")
        await asyncio.sleep(_METRICS_POLL_S)
    return count - before
