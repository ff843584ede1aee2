"""Which objects of a resource nobody wants any more. Pure."""

from collections.abc import Collection, Iterable
from typing import Any, Final

from headrace_api.names import LABEL_REVISION, LABEL_ROLE
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.kinds import (
    CHILDREN,
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    SCALED_OBJECTS,
    STATEFUL_SETS,
    Kind,
)
from headrace_operator.kubernetes.objects import Item

_MADE_BY_OTHERS: Final = (PODS,)
_ROLLED_OUT: Final = (DEPLOYMENTS, STATEFUL_SETS)


def unwanted(
    key: Key, uid: str, cache: Cache, wanted: Collection[tuple[str, str, str]], *, keda: bool = False
) -> Iterable[tuple[Kind[Any], Item]]:
    """Yield what the resource controls and does not want.

    Deployments and StatefulSets of workers are left to the rollout, which drains them first, and so are the settings
    and the members of those that are still there.

    Args:
        key: of the resource.
        uid: of the resource.
        cache: what is there.
        wanted: the places of what it wants.
        keda: whether `wanted` has the ScaledObjects; else they are left alone, whoever made them.
    """
    held = {
        (one.metadata.labels.get(LABEL_ROLE), one.metadata.labels.get(LABEL_REVISION))
        for one in (*cache.of(DEPLOYMENTS, key), *cache.of(STATEFUL_SETS, key))
        if LABEL_ROLE in one.metadata.labels
    }
    revisions = {revision for _, revision in held}
    for kind in (*CHILDREN, *((SCALED_OBJECTS,) if keda else ())):
        if kind in _MADE_BY_OTHERS:
            continue
        for item in cache.of(kind, key):
            metadata, own = item.metadata, item.metadata.labels
            controller = metadata.controller
            if (kind.plural, metadata.namespace, metadata.name) in wanted or metadata.deletion_timestamp is not None:
                continue
            if controller is None or controller.uid != uid:
                continue
            if kind in _ROLLED_OUT and LABEL_ROLE in own:
                continue
            if kind is STATEFUL_SETS and own.get(LABEL_REVISION) in revisions:
                continue
            if kind is CONFIG_MAPS and (own.get(LABEL_ROLE), own.get(LABEL_REVISION)) in held:
                continue
            yield kind, item
