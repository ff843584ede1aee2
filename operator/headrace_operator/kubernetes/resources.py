"""The resources that users wrote, as the API server last told them."""

from collections.abc import Mapping
from typing import Any

from headrace_operator.kubernetes.cache import Key


class Resources:
    """LLMDeployments and LLMRouters by key, as plain data."""

    def __init__(self) -> None:
        self._bodies: dict[Key, Mapping[str, Any]] = {}

    def get(self, key: Key) -> Mapping[str, Any] | None:
        """Return a resource, None where there is none."""
        return self._bodies.get(key)

    def listed(self) -> list[Key]:
        """Return every resource's key, in no order that matters."""
        return list(self._bodies)

    def routers_of(self, key: Key) -> list[Key]:
        """Return the LLMRouters that name an LLMDeployment."""
        return [
            other
            for other, body in self._bodies.items()
            if (other.kind, other.namespace) == ("LLMRouter", key.namespace)
            and any(tier.get("deployment") == key.name for tier in body.get("spec", {}).get("tiers", ()))
        ]

    def put(self, key: Key, body: Mapping[str, Any]) -> bool:
        """Take a resource and return whether it is another one than before, its status apart."""
        known = self._bodies.get(key)
        self._bodies[key] = body
        return known is None or _essence(known) != _essence(body)

    def drop(self, key: Key) -> None:
        """Take note that a resource has gone."""
        self._bodies.pop(key, None)


def _essence(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what the operator acts upon; the generation counts every change of the spec."""
    metadata = body["metadata"]
    return metadata["uid"], metadata.get("generation"), metadata.get("deletionTimestamp")
