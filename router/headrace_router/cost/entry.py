"""One line of the ledger."""

from typing import Literal

import msgspec

Kind = Literal["request", "tried", "repeat", "failed", "idle", "load", "lost"]


Stage = Literal["prefix", "whole"]


class Judged(msgspec.Struct, frozen=True):
    """What the gate said of a tier's answer, once."""

    gain: float
    """Gain that it expected of asking the next tier, 0 to 1."""
    stage: Stage
    """How much of the answer it saw."""


class Entry(msgspec.Struct, frozen=True):
    """What one request, or a stretch of a worker's time, cost and who pays for it."""

    entry: str
    """Unique: the ledger takes a second line of the same name for a repeat."""
    at: float
    """Unix seconds: when the request came, or the stretch began."""
    kind: Kind
    """`request`: billed; `tried`: billed too, the part of a tier whose answer another tier's took the place of;
    `repeat`: either of them again, under its Idempotency-Key; `failed`: no answer came of it; `idle`, `load`, `lost`:
    time of a worker's GPUs that no request used, or that went into answers nobody got."""
    request: str
    """The request's id as the client knows it."""
    key: str
    team: str
    organisation: str
    model: str
    tier: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    prefill_s: float
    decode_s: float
    lost_s: float
    """GPU-seconds of failed attempts and of replayed prompts; for idle, load and lost: all of them."""
    cost: int
    """What it cost, in billionths, billed or not."""
    billed: int
    """What the tenant pays, in billionths."""
    saving: int
    """What cached prompt tokens would have cost beside."""
    currency: str
    gain: float | None = None
    """See `Judged`; None where no gate judged, and in lines that are older than this column."""
    stage: Stage | None = None
    role: str | None = None
    """Of idle, load and lost: the pool whose worker it was. Both of a request's workers are in its one line."""


ADDED: tuple[str, ...] = ("gain", "stage", "role")
"""Columns that ledgers of older versions lack; each may be NULL."""
COLUMNS: tuple[str, ...] = tuple(Entry.__struct_fields__)
