"""What rank 0 and the other ranks of a worker say to each other, as msgpack over a pipe for each of them."""

import msgspec


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Rank 0 to a new process: who it is."""

    rank: int
    settings: str
    """The worker's, as JSON."""


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A rank to rank 0: what it sees before it reads any weight."""

    rank: int
    kv_hash: str
    """Over model, revision and types: every rank must find the same."""
    num_blocks: int
    """KV blocks that fit on its device."""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Rank 0 to a rank: all agree; meet, and read the weights."""

    store_host: str
    """Where all ranks meet: rank 0's own address."""
    store_port: int
    num_blocks: int


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """A rank to rank 0: it is ready for steps."""


class StepRow(msgspec.Struct, frozen=True, array_like=True):
    """Consecutive tokens of one sequence in a step."""

    tokens: tuple[int, ...]
    start: int
    blocks: tuple[int, ...]
    draws: bool
    """Whether its last token's logits are wanted."""


class StepWritten(msgspec.Struct, frozen=True, array_like=True):
    """Blocks that a step computes for an attempt of another worker."""

    attempt: str
    first: int
    blocks: tuple[int, ...]


class Step(msgspec.Struct, frozen=True, tag="step"):
    """Rank 0 to all: compute this now, together."""

    rows: tuple[StepRow, ...]
    written: tuple[StepWritten, ...] = ()


class Touch(msgspec.Struct, frozen=True, tag="touch"):
    """Rank 0 to all: have the memory of these empty blocks present."""

    blocks: tuple[int, ...]


class End(msgspec.Struct, frozen=True, tag="end"):
    """Rank 0 to all: the worker ends."""


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """A rank's last words."""

    message: str
    permanent: bool = False


ToRank = Begin | Load | Step | Touch | End
FromRank = Found | Loaded | Broken
