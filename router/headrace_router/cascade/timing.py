"""How long tiers take: whether there is time to ask them one after the other (pure)."""

_WEIGHT = 0.2
"""Of the newest request in the running means."""


class Timing:
    """Running means of each tier, in seconds."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._verdict: dict[str, float] = {}

    def began(self, tier: str, seconds: float) -> None:
        """Note how long a tier took to its first token."""
        self._first[tier] = _moved(self._first.get(tier), seconds)

    def judged(self, tier: str, seconds: float) -> None:
        """Note how long it took until a tier's answer was judged."""
        self._verdict[tier] = _moved(self._verdict.get(tier), seconds)

    def in_turn_s(self, tier: str, after: str) -> float:
        """Return how long the first token of one tier takes where another one is judged before; 0 while not known."""
        return self._verdict.get(after, 0.0) + self._first.get(tier, 0.0)


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _WEIGHT * (value - mean)
