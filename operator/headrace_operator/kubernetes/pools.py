"""LLMPools: their numbers, written once each through `scale`, and their statuses."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from headrace_operator.desired import Desired, Role
from headrace_operator.kubernetes import report, writing
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.kinds import POOLS
from headrace_operator.kubernetes.making import Maker
from headrace_operator.kubernetes.memory import Memory, Rendered, Written
from headrace_operator.kubernetes.numbers import Number
from headrace_operator.kubernetes.objects import PoolItem
from headrace_operator.kubernetes.tools import Tools
from headrace_operator.objects import Owner
from headrace_operator.observed import Observed


def is_number_due(cache: Cache, child: Rendered, held: Mapping[Role, Number]) -> bool:
    """Return whether this is an LLMPool that is there, and another number is to be written to it.

    A new pool carries the note of its number from the start, and shows by its missing number that it is still to be
    written. A number that changes is written before the note, so that an end in between writes it twice, never not.
    """
    return _due(cache, child, held) is not None


async def hold_numbers(tools: Tools, maker: Maker, children: Iterable[Rendered], held: Mapping[Role, Number]) -> None:
    """Write the numbers of LLMPools that are due, and then the notes of them."""
    for child in children:
        if (due := _due(tools.cache, child, held)) is None:
            continue
        item, replicas = due
        version = await tools.session.scale(POOLS, child.wanted.namespace, child.wanted.name, replicas)
        tools.cache.learn(POOLS, _numbered(item, replicas, version))
        await maker.make(child)


def _due(cache: Cache, child: Rendered, held: Mapping[Role, Number]) -> tuple[PoolItem, int] | None:
    """Return an LLMPool and the number that is to be written to it."""
    item = cache.get(POOLS, child.wanted.namespace, child.wanted.name) if child.wanted.kind is POOLS else None
    number = next((one for role, one in held.items() if item is not None and role == item.spec.role), None)
    return (item, number.replicas) if item is not None and number is not None and number.write else None


async def report_pools(
    tools: Tools, memory: Memory, owner: Owner, desired: Desired, observed: Observed, *, now: float
) -> float | None:
    """Write the statuses of LLMPools; return after how long the rest of the changes is due."""
    due = []
    key = Key("LLMDeployment", owner.namespace, owner.name)
    items = {item.spec.role: item for item in tools.cache.of(POOLS, key)}
    for pool in desired.pools:
        item = items.get(pool.role)
        if item is None or item.metadata.deletion_timestamp is not None:
            continue
        status = report.pool_status(owner, pool, observed, item.metadata.generation)
        name = item.metadata.name
        before = memory.pool_status.get(name) or Written(_told(item), now + writing.FIRST_S - writing.EVERY_S)
        memory.pool_status[name], again_s = await writing.write(
            tools.session, tools.cache, POOLS, (owner.namespace, name), status, before=before, now=now
        )
        due.append(again_s)
    return min((one for one in due if one is not None), default=None)


def _numbered(item: PoolItem, replicas: int, version: str) -> PoolItem:
    """Return an LLMPool as it is after its number was written: a change of the spec counts as a generation."""
    generation = item.metadata.generation + (item.spec.replicas != replicas)
    metadata = msgspec.structs.replace(item.metadata, resource_version=version, generation=generation)
    return msgspec.structs.replace(item, metadata=metadata, spec=msgspec.structs.replace(item.spec, replicas=replicas))


def _told(item: PoolItem) -> dict[str, Any]:
    """Return the status that an LLMPool carries."""
    status: dict[str, Any] = msgspec.to_builtins(item.status) if item.status is not None else {}
    return status
