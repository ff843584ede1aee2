"""Recorded answers: JSONL files that say how each tier answered a prompt, and whether it was right.

One object per line:

    {"prompt": "2 + 3", "group": "addition", "tiers": {
      "small": {"tokens": [[1251, -0.32, 1.7], [2, -0.01, 5.2]], "finish": "stop", "right": false},
      "large": {"right": true}}}

- `prompt`: the text, or the list of a chat's messages, as the client sent it.
- `group`: optional; the kind of task.
- `tiers`: the same two or more names on every line. `right` is judged by whoever made the file. `tokens` are (id,
  log-probability, margin) as a worker's frames carry them, in the order they came; a finish reason ends the answer. The
  tier whose answers are judged needs them on every line, the other ones need `right` alone.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from headrace_api.frames import FrameHead, Token
from headrace_cli.errors import UsageError
from headrace_router.cascade.evidence import Evidence
from headrace_router.errors import ClientError
from headrace_router.openai.peek import peek_chat

_NAMED = 2


class Answer(msgspec.Struct, frozen=True):
    """What one tier answered."""

    right: bool
    tokens: tuple[Token, ...] | None = None
    finish: str | None = "stop"


class _Line(msgspec.Struct, frozen=True):
    prompt: str | list[dict[str, Any]]
    tiers: dict[str, Answer]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt with the weak tier's answer."""

    file: str
    group: str
    digest: bytes
    """Of the prompt; no split parts equal ones."""
    prompt_bytes: int
    answer: Answer
    strong: bool
    """Whether the strong tier is right."""

    def evidence(self, tokens: int | None = None) -> Evidence:
        """Return what is known after so many tokens of the answer, of the whole one by default."""
        listed = self.answer.tokens or ()
        found = Evidence(self.prompt_bytes)
        whole = tokens is None or len(listed) <= tokens
        found.take(FrameHead(tokens=listed[:tokens], finish=(self.answer.finish or "stop") if whole else None))
        return found


@dataclass(frozen=True, slots=True)
class Answers:
    """Rows of one or more files, with the names of the two tiers."""

    rows: tuple[Row, ...]
    weak: str
    strong: str

    @property
    def gains(self) -> npt.NDArray[np.float64]:
        """(n,) 1 where only the strong tier is right, -1 where only the weak one, else 0."""
        return np.array([row.strong - row.answer.right for row in self.rows], dtype=np.float64)

    @property
    def files(self) -> list[str]:
        """Names of the files, in order."""
        return list(dict.fromkeys(row.file for row in self.rows))


def read(paths: Sequence[Path], weak: str | None = None, strong: str | None = None) -> Answers:
    """Return the rows of all files; the tier that is right more often is the strong one, unless they are named.

    Raises:
        UsageError: a file cannot be read, or a line lacks what this page's head says.
    """
    lines = [(path.name, where, line) for path in paths for where, line in _lines(path)]
    if not lines:
        raise UsageError(f"{', '.join(map(str, paths))}: no rows; expected recorded answers, a JSON object per line")
    tiers = _tiers([line for _, _, line in lines], weak, strong)
    return Answers(tuple(_row(name, where, line, tiers) for name, where, line in lines), *tiers)


def _lines(path: Path) -> Iterator[tuple[str, _Line]]:
    decode = msgspec.json.Decoder(_Line).decode
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            try:
                yield f"{path}:{number}", decode(line)
            except (msgspec.MsgspecError, UnicodeError) as error:
                raise UsageError(f"{path}:{number} is no recorded answer: {error}") from error


def _tiers(lines: Sequence[_Line], weak: str | None, strong: str | None) -> tuple[str, str]:
    named = [name for name in (weak, strong) if name is not None]
    known = [name for name in lines[0].tiers if all(name in line.tiers for line in lines)]
    if len(named) < _NAMED and len(known) != _NAMED:
        told = ", ".join(known) or "none"
        raise UsageError(f"tiers on every line: {told}; expected two, or name them: --weak, --strong")
    if weak is not None and strong is not None:
        return weak, strong
    if named and named[0] not in known:
        raise UsageError(f"no tier on every line is called {named[0]!r}; there are {', '.join(known)}")
    if named:
        other = next(name for name in known if name != named[0])
        return (named[0], other) if weak is not None else (other, named[0])
    first, last = sorted(known, key=lambda name: sum(line.tiers[name].right for line in lines))
    return first, last


def _row(name: str, where: str, line: _Line, tiers: tuple[str, str]) -> Row:
    weak, strong = (line.tiers.get(tier) for tier in tiers)
    if weak is None or strong is None:
        raise UsageError(f"{where} has the tiers {', '.join(line.tiers)}; expected {' and '.join(tiers)}")
    if weak.tokens is None:
        raise UsageError(
            f"{where} has no tokens of {tiers[0]!r}, whose answers are judged; record [id, logprob, margin]"
        )
    digest = hashlib.sha256(msgspec.json.encode(line.prompt)).digest()
    return Row(name, line.group or name, digest, _prompt_bytes(where, line.prompt), weak, strong.right)


def _prompt_bytes(where: str, prompt: str | list[dict[str, Any]]) -> int:
    """Return the size as the router sees it: of a chat's rendering, or of the prompt as it stands in the body."""
    if isinstance(prompt, str):
        return len(msgspec.json.encode(prompt))
    try:
        return len(peek_chat(msgspec.json.encode({"messages": prompt})).text())
    except ClientError as error:
        raise UsageError(f"{where}: {error}") from error
