"""GPU time that no request used, as lines of the ledger (pure).

Workers count it up from their start. Each full portion of it becomes one line whose name follows from the worker, the
use and the portion's number, so that a router that restarts, or another one beside it, writes no portion twice.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from headrace_api import names
from headrace_router.cost.entry import Entry, Kind
from headrace_router.cost.price import Tariff, Usage

USES: Final[tuple[Kind, ...]] = ("idle", "load", "lost")
_NOBODY: Final = "none"

Told = dict[Kind, int]
"""How many portions of a worker were told, by use."""


def read_seconds(text: str) -> dict[Kind, float]:
    """Return the unused GPU-seconds on a worker's metrics page, by use; what it does not tell is left out."""
    found: dict[Kind, float] = {}
    for line in text.splitlines():
        name, brace, rest = line.partition("{")
        if not brace or not name.startswith("headrace_gpu_"):
            continue
        labels, _, value = rest.rpartition("} ")
        if name == f"{names.GPU_LOST_SECONDS}_total":
            found["lost"] = float(value)
        elif name == f"{names.GPU_SECONDS}_total":
            for use in USES:
                if f'use="{use}"' in labels.split(","):
                    found[use] = float(value)
    return found


def portions(seconds: Mapping[Kind, float], told: Told, size_s: float) -> Iterable[tuple[Kind, int, float]]:
    """Yield (use, number, seconds) for each portion that is full now, and note it in `told`.

    Time to load comes once and whole: it has no second portion to wait for.
    """
    for use, total_s in seconds.items():
        if use == "load":
            if total_s > 0 and not told.get(use):
                told[use] = 1
                yield use, 0, total_s
            continue
        for number in range(told.get(use, 0), int(total_s / size_s)):
            told[use] = number + 1
            yield use, number, size_s


def line(
    portion: tuple[Kind, int, float],
    *,
    incarnation: str,
    model: str,
    tier: str,
    tariff: Tariff,
    currency: str,
    unix_s: float,
    role: str | None = None,
) -> Entry:
    """Return a portion as a line; it costs by the hour, and nothing where the tier is priced by token."""
    use, number, seconds = portion
    return Entry(
        entry=f"{use}/{model}/{incarnation}/{number}",
        at=unix_s,
        kind=use,
        request="",
        key=_NOBODY,
        team=_NOBODY,
        organisation=_NOBODY,
        model=model,
        tier=tier,
        status=0,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        prefill_s=0.0,
        decode_s=0.0,
        lost_s=seconds,
        cost=tariff.cost(Usage(lost_s=seconds)).lost,
        billed=0,
        saving=0,
        currency=currency,
        role=role,
    )
