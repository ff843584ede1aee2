"""Lays what a user wrote over what we would make.

Mappings merge, lists of named objects merge by name, other lists are replaced, null takes a field away.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_KEYS: Final = {"volumeMounts": "mountPath", "volumeDevices": "devicePath"}
"""Lists whose entries a name does not tell apart: one volume may be mounted at two places."""
_UNIONS: Final = frozenset({"env", "volumes"})
"""Lists whose entries are one of several kinds: a value or where it comes from, one source of files. Merged, such an
entry would be two at once, which the API server refuses; so an entry of the same name replaces ours."""


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` laid on it; neither is changed, nor shared with the result where it is merged."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _lay(key, merged.get(key), value)
    return merged


def _lay(key: str, below: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return merge(below if isinstance(below, Mapping) else {}, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _lay_list(key, below, [_bare(item) for item in value])
    return value


def _lay_list(key: str, below: Any, values: list[Any]) -> list[Any]:
    name = _KEYS.get(key, "name")
    ours, theirs = _named(below, name), _named(values, name)
    if ours is None or theirs is None:
        return values
    merged = dict(ours)
    for entry, value in theirs.items():
        merged[entry] = value if key in _UNIONS or entry not in ours else merge(ours[entry], value)
    return list(merged.values())


def _named(values: Any, name: str) -> dict[str, Any] | None:
    """Return the entries by name, None where this is no list of objects with names of their own."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return None
    named = {item[name]: item for item in values if isinstance(item, Mapping) and isinstance(item.get(name), str)}
    return named if len(named) == len(values) else None


def _bare(value: Any) -> Any:
    """Return a value that lies on nothing: its nulls have nothing to take away."""
    return merge({}, value) if isinstance(value, Mapping) else value
