"""Turns what pydantic found wrong into a sentence: the path, what was found, what was expected."""

import difflib
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

Location = tuple[str | int, ...]

_MAX_SHOWN = 80
_EXPECTED: Final = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_long": "at most {max_length} characters",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length}, each with its fields",
}


def sentence(model: type[BaseModel], fault: ErrorDetails) -> str:
    """Return what is wrong at `fault`'s location of a `model`, as one sentence."""
    location = fault["loc"]
    path = spell(location)
    match fault["type"]:
        case "extra_forbidden":
            return f"{path} is not a field of {model.__name__}; {_nearest(model, location)}"
        case "missing":
            return f"{path} is missing: {_meaning(model, location)}"
        case "value_error":
            reason = str(fault.get("ctx", {}).get("error", fault["msg"]))
            return f"{path}: {reason}" if path else reason
    return f"{path} is {_shown(fault['input'])}; expected {_expected(model, fault)}"


def spell(location: Location) -> str:
    """Return the path as a user writes it, such as `spec.tiers[0].name`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")


def _expected(model: type[BaseModel], fault: ErrorDetails) -> str:
    kind = fault["type"]
    if kind == "string_pattern_mismatch":
        return _meaning(model, fault["loc"])
    if kind in _EXPECTED:
        return _EXPECTED[kind].format(**fault.get("ctx", {}))
    return fault["msg"][:1].lower() + fault["msg"][1:]


def _shown(value: object) -> str:
    """Return `value` short enough for a sentence."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = "empty" if value is None else repr(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _nearest(model: type[BaseModel], location: Location) -> str:
    """Return `did you mean …?` for an unknown key, or the keys that exist where none is near."""
    parent = _walk(model, location[:-1])
    known = [] if parent is None else [field.alias or name for name, field in parent.model_fields.items()]
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _meaning(model: type[BaseModel], location: Location) -> str:
    """Return the manual of the field, or of the one that holds it, as the end of a sentence, with its example."""
    for length in range(len(location), 0, -1):
        parent = _walk(model, location[: length - 1])
        for name, field in parent.model_fields.items() if parent else ():
            if location[length - 1] in {name, field.alias}:
                meaning = " ".join((field.description or "").split())
                example = f", for example {field.examples[0]}" if field.examples else ""
                return meaning[:1].lower() + meaning[1:].rstrip(".") + example
    return "a value that the manual allows"


def _walk(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """Return the model that holds the field behind `location`."""
    current: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int):
            continue
        if current is None:
            return None
        fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
        current = _nested(fields.get(step))
    return current


def _nested(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _nested(inner))), None)
