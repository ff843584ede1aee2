"""Reads a worker's page of metrics.

A page has about a hundred samples, and a handful of them matters here. The library's parser makes objects of all of
them and takes 2.5 ms; searching the few takes a fiftieth of that, which counts with a thousand workers.
"""

from dataclasses import dataclass
from typing import Final

from headrace_api import names
from headrace_operator.scaling.load import Load

_IN_USE: Final = ("active", "granted", "quarantined")


@dataclass(frozen=True, slots=True)
class Page:
    """What a worker's page says."""

    load: Load
    worth: float
    """How many KV blocks of use would be lost with the worker; see `worth`."""


def read(page: bytes) -> Page | None:
    """Return what the page says; None where it lacks what every worker tells."""
    running, waiting = _value(page, names.REQUESTS_RUNNING), _value(page, names.REQUESTS_WAITING)
    if running is None or waiting is None:
        return None
    remote = _value(page, names.REQUESTS_REMOTE) or 0.0
    tokens = _value(page, names.PROMPT_TOKENS_WAITING) or 0.0
    blocks = _by_label(page, names.KV_BLOCKS, "state")
    prompts = _by_label(page, f"{names.PROMPT_TOKENS}_total", "source")
    in_use, all_blocks = sum(blocks.get(state, 0.0) for state in _IN_USE), sum(blocks.values())
    ended = sum(_by_label(page, f"{names.REQUESTS}_total", "outcome").values())
    load = Load(running, max(0.0, waiting - remote), tokens, in_use / all_blocks if all_blocks else 0.0, ended)
    return Page(load, worth(blocks.get("active", 0.0), blocks.get("cached", 0.0), prompts))


def worth(active: float, cached: float, prompts: dict[str, float]) -> float:
    """Return what a worker's prefixes are worth, in blocks.

    Blocks of running sequences count whole: they are waited for. Cached ones count by how much of its prompts the
    worker found in its cache so far: a full cache that nobody comes back to is worth nothing.

    Args:
        active: blocks that sequences hold.
        cached: blocks that nobody holds and that may still be hit.
        prompts: tokens by source.
    """
    total = sum(prompts.values())
    return active + cached * (prompts.get("cached", 0.0) / total if total else 0.0)


def _value(page: bytes, name: str) -> float | None:
    """Return the value of a metric with one sample."""
    start = _find(page, name.encode(), 0)
    if start < 0:
        return None
    end = page.find(b"\n", start)
    return _number(page[start : end if end >= 0 else len(page)].rpartition(b" ")[2])


def _by_label(page: bytes, name: str, label: str) -> dict[str, float]:
    """Return the samples of a metric by the value of one of their labels."""
    found: dict[str, float] = {}
    key, mark, place = name.encode(), f'{label}="'.encode(), 0
    while (start := _find(page, key + b"{", place)) >= 0:
        end = page.find(b"\n", start)
        place = end if end >= 0 else len(page)
        labels, _, value = page[start:place].rpartition(b" ")
        number = _number(value)
        if number is not None:
            found[labels.partition(mark)[2].partition(b'"')[0].decode(errors="replace")] = number
    return found


def _find(page: bytes, name: bytes, start: int) -> int:
    """Return where the next line begins that is a sample of the metric; -1 where there is none."""
    if start == 0 and page.startswith(name) and page[len(name) : len(name) + 1] in {b"{", b" "}:
        return 0
    mark = b"\n" + name
    while (at := page.find(mark, start)) >= 0:
        after = at + len(mark)
        if name.endswith(b"{") or page[after : after + 1] in {b"{", b" "}:
            return at + 1
        start = after
    return -1


def _number(text: bytes) -> float | None:
    """Return a number; None where it is none, or not a finite one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
