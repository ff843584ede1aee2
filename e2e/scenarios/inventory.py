"""Everything that a cluster holds, to tell what something has left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from e2e.cluster.errors import StartError
from e2e.scenarios.space import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from e2e.cluster.kubectl import Kubectl

_PASSING: Final = frozenset({"APIService", "ComponentStatus", "ControllerRevision", "Endpoints", "Event", "Lease"})
"""Kinds that come and go by themselves, or with objects that are told anyway."""

_COLUMNS: Final = "custom-columns=:kind,:metadata.namespace,:metadata.name"


def inventory(kubectl: Kubectl) -> frozenset[str]:
    """Return `Kind namespace/name` of every object of every kind, but for those that pass."""
    kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
    told = kubectl("get", ",".join(kinds), "--all-namespaces", "--output", _COLUMNS, timeout_s=120)
    return described(told.splitlines())


def wait_left(kubectl: Kubectl, before: AbstractSet[str], wanted: AbstractSet[str], timeout_s: float) -> None:
    """Wait until what has come since `before` is what is `wanted`: Kubernetes collects an owner's objects when it can.

    Raises:
        StartError: It is something else after `timeout_s`; what is missing and what is too much is told.
    """
    left: AbstractSet[str] = frozenset()

    def is_right() -> bool:
        nonlocal left
        left = inventory(kubectl) - before
        return left == wanted

    try:
        wait_for(is_right, timeout_s, "The cluster does not hold what it should")
    except StartError as error:
        raise StartError(f"{error} Too much: {sorted(left - wanted)}; missing: {sorted(wanted - left)}.") from None


def described(lines: Iterable[str]) -> frozenset[str]:
    """Return what lines of kind, namespace and name tell; objects without a namespace have kubectl's `<none>`."""
    found = (line.split() for line in lines)
    return frozenset(
        f"{kind} {name}" if namespace == "<none>" else f"{kind} {namespace}/{name}"
        for kind, namespace, name in filter(None, found)
        if kind not in _PASSING
    )
