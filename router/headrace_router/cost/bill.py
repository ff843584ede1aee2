"""The bill of one request, as its answer shows it (pure)."""

import dataclasses

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

    def json(self) -> bytes:
        """Return the value of `usage.cost`; amounts are decimal numbers in the currency."""
        cost, usage = self.cost, self.usage
        tier = {
            "tier": self.tier,
            "total": _number(cost.total),
            "prefill": _number(cost.prefill),
            "decode": _number(cost.decode),
            "cache_saving": _number(cost.saving),
            "gpu_seconds": {"prefill": round(usage.prefill_s, 6), "decode": round(usage.decode_s, 6)},
        }
        told = {"total": _number(self.billed), "currency": self.currency, "tiers": [tier]}
        return _encode(told | {"repeated": True} if self.repeated else told)

    def header(self) -> bytes:
        """Return the line that states the total on a whole answer."""
        return b"x-headrace-cost: %b %b\r\n" % (to_text(self.billed).encode(), self.currency.encode())


def _number(nano: int) -> msgspec.Raw:
    return msgspec.Raw(to_text(nano).encode())


def with_cost(payload: bytes, bill: Bill) -> bytes:
    """Return the last payload of an answer with the bill inside its `usage`; as it was where it states none."""
    for end in _ENDS:
        if payload.endswith(end):
            return b'%b,"cost":%b%b' % (payload[: -len(end)], bill.json(), end)
    return payload
