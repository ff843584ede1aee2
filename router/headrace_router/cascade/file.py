"""Model files: versioned JSON, checked when read, written so that a reader never sees half of one."""

import os
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from headrace_router.cascade import evidence, prompt
from headrace_router.cascade.errors import ModelFileError
from headrace_router.cascade.judge import Judge
from headrace_router.cascade.predictor import Predictor

VERSION = 1


class Training(msgspec.Struct, frozen=True):
    """Where a model comes from."""

    rows: int
    files: tuple[str, ...]
    seed: int


class Threshold(msgspec.Struct, frozen=True):
    """From which expected gain on the strong tier is asked, and what that did on the data it was chosen on."""

    target: float
    """Share of the quality gap to recover."""
    gain: float
    calls: float
    """Share of strong calls on that data."""
    rows: int


class DifficultyFile(msgspec.Struct, frozen=True, tag_field="kind", tag="difficulty", kw_only=True):
    """A difficulty model: everything that serving needs."""

    format: Literal["headrace-cascade"] = "headrace-cascade"
    version: int = VERSION
    weak: str
    """Name of the weak model, as the column of the training data had it."""
    strong: str
    encoder: str
    """URI of the model whose embeddings the predictor knows."""
    features: tuple[str, ...] = prompt.NAMES
    training: Training
    predictor: Predictor
    thresholds: tuple[Threshold, ...] = ()


class Stage(msgspec.Struct, frozen=True):
    """What is known of an answer at one moment, and how it is judged then."""

    sighted: Judge
    blind: Judge
    """For engines that tell no log-probabilities."""
    thresholds: tuple[Threshold, ...] = ()
    """Of the sighted model, by rising target."""


class GateFile(msgspec.Struct, frozen=True, tag_field="kind", tag="gate", kw_only=True):
    """A gate on answers of the weak tier."""

    format: Literal["headrace-cascade"] = "headrace-cascade"
    version: int = VERSION
    weak: str
    """Name of the tier whose answers are judged, as the training data had it."""
    strong: str
    commit_tokens: int
    """How many tokens the prefixes had that `prefix` was trained on."""
    training: Training
    prefix: Stage
    whole: Stage


def write(path: Path, model: msgspec.Struct) -> None:
    """Replace the file as a whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=0))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ModelFileError(f"{path} cannot be written: {error.strerror or error}") from error


def read_difficulty(path: Path) -> DifficultyFile:
    """Return the model in a file; raise ModelFileError with one sentence where it cannot be used."""
    model = _decode(path, DifficultyFile)
    if model.features != prompt.NAMES:
        strange = sorted(set(model.features) ^ set(prompt.NAMES)) or ["the order"]
        raise ModelFileError(f"{path} was trained on other features ({', '.join(strange[:3])}); train it again")
    wrong = model.predictor.inconsistency(len(prompt.NAMES))
    if wrong is not None:
        raise ModelFileError(f"{path} is inconsistent: {wrong}; train it again")
    return model


def read_gate(path: Path) -> GateFile:
    """Return the gate in a file; raise ModelFileError with one sentence where it cannot be used."""
    model = _decode(path, GateFile)
    for name, stage in (("prefix", model.prefix), ("whole", model.whole)):
        for sight, judge, known in (
            ("sighted", stage.sighted, evidence.NAMES),
            ("blind", stage.blind, evidence.BLIND_NAMES),
        ):
            if (wrong := judge.inconsistency(known)) is not None:
                raise ModelFileError(f"{path} is inconsistent: {name}.{sight} {wrong}; train it again")
        targets = [threshold.target for threshold in stage.thresholds]
        if targets != sorted(set(targets)):
            raise ModelFileError(f"{path} is inconsistent: targets of {name}.thresholds do not rise; train it again")
    if model.commit_tokens < 1:
        raise ModelFileError(f"{path} is inconsistent: commit_tokens is {model.commit_tokens}; train it again")
    return model


def read(path: Path) -> DifficultyFile | GateFile:
    """Return the model in a file, whichever kind it is; raise ModelFileError where it cannot be used."""
    try:
        kind = msgspec.json.decode(path.read_bytes(), type=_Head).kind
    except (OSError, msgspec.MsgspecError, UnicodeError):
        kind = ""  # the readers say what is wrong
    return read_gate(path) if kind == "gate" else read_difficulty(path)


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0
    kind: str = ""


_Model = TypeVar("_Model", DifficultyFile, GateFile)


def _decode(path: Path, kind: type[_Model]) -> _Model:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != "headrace-cascade":
            raise ModelFileError(f"{path} is no model file of the cascade; make one with `headrace cascade train`")
        if head.version != VERSION:
            raise ModelFileError(f"{path} has version {head.version}, this program reads {VERSION}; train it again")
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ModelFileError(f"{path} is no sound model file: {error}; train it again") from error
