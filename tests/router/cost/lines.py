"""Lines of a ledger for tests, and ledgers of older versions."""

from typing import Any

from headrace_router.cost.entry import ADDED, COLUMNS, Entry

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


OLD_COLUMNS = tuple(name for name in COLUMNS if name not in ADDED)
_NUMBERS = {"at": "DOUBLE PRECISION", "prefill_s": "DOUBLE PRECISION", "decode_s": "DOUBLE PRECISION"}
_TYPES = (
    _NUMBERS
    | {"lost_s": "DOUBLE PRECISION"}
    | dict.fromkeys(
        ("status", "prompt_tokens", "cached_tokens", "completion_tokens", "cost", "billed", "saving"), "BIGINT"
    )
)
OLD_TABLE = "CREATE TABLE entries ({})".format(
    ", ".join(
        f"{name} {_TYPES.get(name, 'TEXT')} NOT NULL{' PRIMARY KEY' if name == 'entry' else ''}" for name in OLD_COLUMNS
    )
)
"""What the first version of a ledger made."""
OLD_INSERT = f"INSERT INTO entries ({', '.join(OLD_COLUMNS)}) VALUES ({', '.join('?' for _ in OLD_COLUMNS)})"
"""What a router of the first version writes."""


def old_values(entry: Entry) -> tuple[Any, ...]:
    """Return a line's values as a router of the first version writes them."""
    return tuple(getattr(entry, name) for name in OLD_COLUMNS)
