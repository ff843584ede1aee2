"""The bill of one request, as its answer shows it (pure)."""

import dataclasses
from typing import Any

import msgspec

from headrace_router.cost.money import to_text
from headrace_router.cost.price import Cost, Usage

_encode = msgspec.json.Encoder().encode
_ENDS = (b"}}", b"}}\n\ndata: [DONE]\n\n")
"""How the last payload of our workers ends where it states `usage`: that object is the last member of the answer, or of
the last event before the end of a stream."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bill:
    """What a request cost."""

    tier: str
    currency: str
    usage: Usage
    cost: Cost
    billed: int
    repeated: bool = False
    """It ran before, under its Idempotency-Key, and was billed then."""
    before: "tuple[Bill, ...]" = ()
    """Of tiers that were tried for the same request, in that order."""

    @property
    def total(self) -> int:
        """What the tenant pays for all of it."""
        return self.billed + sum(bill.billed for bill in self.before)

    def json(self) -> bytes:
        """Return the value of `usage.cost`; amounts are decimal numbers in the currency."""
        tiers = [bill.line() for bill in (*self.before, self)]
        told = {"total": _number(self.total), "currency": self.currency, "tiers": tiers}
        return _encode(told | {"repeated": True} if self.repeated else told)

    def line(self) -> dict[str, Any]:
        """Return its part in `usage.cost.tiers`."""
        cost, usage = self.cost, self.usage
        return {
            "tier": self.tier,
            "total": _number(cost.total),
            "prefill": _number(cost.prefill),
            "decode": _number(cost.decode),
            "cache_saving": _number(cost.saving),
            "gpu_seconds": {"prefill": round(usage.prefill_s, 6), "decode": round(usage.decode_s, 6)},
        }

    def header(self) -> bytes:
        """Return the line that states the total on a whole answer."""
        return b"x-headrace-cost: %b %b\r\n" % (to_text(self.total).encode(), self.currency.encode())


@dataclasses.dataclass(frozen=True, slots=True)
class Footer:
    """What the end of an answer says about it."""

    bill: Bill | None = None
    degraded: bool = False
    """A better tier should have answered, and could not."""

    def header(self) -> bytes:
        """Return the lines that a whole answer has of it."""
        return b"" if self.bill is None else self.bill.header()

    def into(self, payload: bytes) -> bytes:
        """Return the last payload of an answer with all this inside; as it was where it states no `usage`."""
        cost = b"" if self.bill is None else b',"cost":' + self.bill.json()
        mark = b',"degraded":true' if self.degraded else b""
        for end in _ENDS if cost or mark else ():
            if payload.endswith(end):
                return b"%b%b}%b%b" % (payload[: -len(end)], cost, mark, end[1:])
        return payload


def _number(nano: int) -> msgspec.Raw:
    return msgspec.Raw(to_text(nano).encode())
