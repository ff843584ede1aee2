"""What an LLMDeployment asks for in a cluster: its pools with the numbers that hold now, and its router."""

from collections.abc import Mapping
from dataclasses import replace

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import DeploymentName, Desired, Pool, Role, Router
from headrace_operator.kubernetes.numbers import Number, number
from headrace_operator.kubernetes.objects import PoolItem
from headrace_operator.objects import Site, stamped
from headrace_operator.plan import pace, pools_of


def stamp(deployment: LLMDeployment, site: Site) -> tuple[Pool, ...]:
    """Return the pools with revision and pairing; they change only with the resource and the site."""
    return tuple(stamped(deployment, pool, site) for pool in pools_of(deployment))


def numbers(deployment: LLMDeployment, pools: tuple[Pool, ...], items: Mapping[str, PoolItem]) -> dict[Role, Number]:
    """Return each pool's number.

    Args:
        deployment: the resource.
        pools: of the resource.
        items: its LLMPools, by role.
    """
    spec = deployment.spec
    return {
        pool.role: number(
            spec.prefill.replicas if pool.role == "prefill" else spec.decode.replicas, items.get(pool.role)
        )
        for pool in pools
    }


def desire(deployment: LLMDeployment, pools: tuple[Pool, ...], held: Mapping[Role, Number]) -> Desired:
    """Return what should be."""
    name = DeploymentName(deployment.metadata.name)
    router = Router(frozenset({name})) if deployment.spec.router.enabled else None
    return Desired(tuple(_numbered(deployment, pool, held[pool.role].replicas) for pool in pools), router)


def _numbered(deployment: LLMDeployment, pool: Pool, replicas: int) -> Pool:
    return replace(pool, replicas=replicas, pace=pace(deployment.spec.rollout, replicas))
