"""Rules between the fields of one mapping, told once for the API server and once for Python, side by side."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold between the fields of a mapping; a test applies the same manifests to both forms."""

    cel: str
    """The rule as the API server evaluates it; `self` is the mapping, with its defaults filled in."""
    holds: Callable[[Any], bool]
    """The same rule over the model."""
    message: str
    """What a user reads where the rule is broken: what was found, what to do; `{name}` stands for a field's value."""
    field: str
    """The field (as written in YAML) that the API server reports."""

    def sentence(self, values: dict[str, Any]) -> str:
        """Return the message with the values of the mapping."""
        return _PLACE.sub(lambda place: str(values.get(place[1])), self.message)

    def schema(self) -> dict[str, str]:
        """Return the rule as an entry of `x-kubernetes-validations`."""
        return {"rule": self.cel, **self._words(), "fieldPath": f".{self.field}"}

    def _words(self) -> dict[str, str]:
        """Return the message as text, or as an expression where it shows values."""
        if not _PLACE.search(self.message):
            return {"message": self.message}
        values = ", ".join(f"self.{name}" for name in _PLACE.findall(self.message))
        return {"messageExpression": f"'{_PLACE.sub('%s', self.message)}'.format([{values}])"}


def immutable(field: str) -> dict[str, Any]:
    """Return the schema of a field that keeps its first value; only the API server sees old and new together."""
    message = f"{field} cannot be changed; delete the object and let the operator make it anew"
    return {"x-kubernetes-validations": [{"rule": "self == oldSelf", "message": message}]}
