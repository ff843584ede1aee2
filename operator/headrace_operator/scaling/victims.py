"""Which workers go when a pool becomes smaller."""

from collections.abc import Mapping, Sequence


def victims(names: Sequence[str], worths: Mapping[str, float], count: int) -> tuple[str, ...]:
    """Return the workers whose prefixes are worth least, the least first.

    Args:
        names: of the workers that serve.
        worths: of those that say it; one that does not is worth nothing: it may well be broken.
        count: how many shall go.
    """
    return tuple(sorted(names, key=lambda name: (worths.get(name, 0.0), name))[: max(0, count)])
