"""Pairs of prefill and decode workers in a given ratio, as closely as whole numbers allow.

With `a` prefill to `b` decode workers a pair (P, D) is in the ratio where -a < P*b - D*a < b: the one number is the
other's share, rounded up. These pairs form a chain in which each is next to another that has at most one worker more
of each kind, so that moving along it never waits for a larger step; what is highest or lowest of two pairs of the
chain, pool by pool, is a pair of the chain too.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ratio:
    """So many prefill workers for so many decode workers."""

    prefill: int
    decode: int

    @classmethod
    def parse(cls, text: str) -> "Ratio":
        """Return the ratio in a text such as `1:3`."""
        prefill, _, decode = text.partition(":")
        return cls(int(prefill), int(decode))

    def holds(self, prefill: int, decode: int) -> bool:
        """Return whether the pair is in the ratio."""
        return -self.prefill < prefill * self.decode - decode * self.prefill < self.decode

    def lift(self, prefill: int, decode: int) -> tuple[int, int]:
        """Return the smallest pair in the ratio with at least these workers; both are 1 or more."""
        return (
            max(prefill, (decode - 1) * self.prefill // self.decode + 1),
            max(decode, (prefill - 1) * self.decode // self.prefill + 1),
        )

    def cut(self, prefill: int, decode: int) -> tuple[int, int]:
        """Return the largest pair in the ratio with at most these workers; both are 1 or more."""
        return (
            min(prefill, -(-decode * self.prefill // self.decode)),
            min(decode, -(-prefill * self.decode // self.prefill)),
        )
