"""Lines of a ledger for tests."""

from typing import Any

from headrace_router.cost.entry import Entry

BASE = Entry(
    entry="e0",
    at=1_000_000.0,
    kind="request",
    request="r0",
    key="anne",
    team="search",
    organisation="acme",
    model="chat",
    tier="small",
    status=200,
    prompt_tokens=100,
    cached_tokens=40,
    completion_tokens=8,
    prefill_s=0.5,
    decode_s=0.25,
    lost_s=0.0,
    cost=30,
    billed=30,
    saving=5,
    currency="USD",
)


def line(entry: str, **fields: Any) -> Entry:
    """Return a line with some fields changed."""
    values: dict[str, Any] = {name: getattr(BASE, name) for name in BASE.__struct_fields__}
    return Entry(**(values | {"entry": entry} | fields))
