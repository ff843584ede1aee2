"""How many workers a pool is to hold, and who says so: the user once, from then on whatever scales the LLMPool."""

from dataclasses import dataclass

from headrace_api.names import ANNOTATION_REPLICAS_WRITTEN
from headrace_operator.kubernetes.objects import PoolItem

FIRST = 1
"""Workers of a new pool for which nobody has given a number."""


@dataclass(frozen=True, slots=True)
class Number:
    """The number of one pool."""

    replicas: int
    """To be held now."""
    asked: int
    """What the user asked for last, to be noted on the LLMPool once it is written."""
    write: bool
    """It is not written yet: through `scale`, so that no apply ever owns the field."""


def number(asked: int | None, item: PoolItem | None) -> Number:
    """Return a pool's number.

    Args:
        asked: by the user, in the LLMDeployment; None: left open.
        item: the LLMPool, None while it is not there.
    """
    if item is None:
        first = FIRST if asked is None else asked
        return Number(first, first, write=True)
    noted = _noted(item)
    wanted = noted if asked is None else asked
    if wanted is None:
        wanted = FIRST if item.spec.replicas is None else item.spec.replicas
    if item.spec.replicas is None or (asked is not None and asked != noted):
        return Number(wanted, wanted, write=True)
    return Number(item.spec.replicas, wanted, write=False)


def _noted(item: PoolItem) -> int | None:
    """Return the number that was written last, as the LLMPool carries it."""
    text = item.metadata.annotations.get(ANNOTATION_REPLICAS_WRITTEN, "")
    return int(text) if text.isdecimal() else None
