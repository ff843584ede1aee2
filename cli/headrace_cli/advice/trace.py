"""How much of a trace's prompts a cache without an end would have held.

The format is that of the traces that Mooncake published: lines of JSON with `input_length` in tokens and `hash_ids`,
one for each block of 512 tokens, each of which stands for its block and all before it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from headrace_cli.errors import UsageError

BLOCK_TOKENS: Final = 512


@dataclass(frozen=True, slots=True)
class Repeats:
    """What of a trace was there before."""

    name: str
    requests: int
    prompt_tokens: int
    repeated_tokens: int
    """Of prompts whose beginning an earlier request had, block by block."""

    @property
    def share(self) -> float:
        """Of the prompt tokens."""
        return self.repeated_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


def read_trace(path: Path) -> Repeats | None:
    """Return what of a trace repeats; None where it has no hashes. Raise UsageError where it is no trace."""
    try:
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
            if first.startswith("TIMESTAMP,"):
                return None
            lines.seek(0)
            return repeats(
                path.name, (_request(path, number, line) for number, line in enumerate(lines, 1) if line.strip())
            )
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the trace {path} cannot be read: {error}") from error


def repeats(name: str, requests: Iterable[tuple[int, list[int]] | None]) -> Repeats | None:
    """Return what of (tokens, hashes of blocks) repeats, in their order; None where one has no hashes."""
    seen: set[int] = set()
    count = prompt_tokens = repeated_tokens = 0
    for request in requests:
        if request is None:
            return None
        tokens, blocks = request
        known = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
        seen.update(blocks)
        count += 1
        prompt_tokens += tokens
        repeated_tokens += min(tokens, known * BLOCK_TOKENS)
    return Repeats(name, count, prompt_tokens, repeated_tokens)


class _Request(msgspec.Struct):
    input_length: Annotated[int, msgspec.Meta(ge=0)]
    hash_ids: list[int] | None = None


def _request(path: Path, number: int, line: str) -> tuple[int, list[int]] | None:
    try:
        found = msgspec.json.decode(line, type=_Request)
    except msgspec.MsgspecError as error:
        raise _strange(path, number, str(error)) from error
    if found.hash_ids is None:
        return None
    if len(found.hash_ids) != -(-found.input_length // BLOCK_TOKENS):
        told = f"it has {len(found.hash_ids)} hash_ids for {found.input_length} tokens, not one for each {BLOCK_TOKENS}"
        raise _strange(path, number, told)
    return found.input_length, found.hash_ids


def _strange(path: Path, number: int, told: str) -> UsageError:
    text = f"{path}, line {number} is no request of a trace: {told}; expected JSON with input_length and hash_ids"
    return UsageError(text)
