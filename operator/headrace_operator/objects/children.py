"""All objects of a resource, in the order in which they are to be applied."""

from collections.abc import Iterable, Iterator, Sequence

from headrace_api.resources import LLMDeployment, LLMRouter
from headrace_operator.desired import Pool
from headrace_operator.objects.account import router_account, worker_account
from headrace_operator.objects.budget import role_budget, router_budget
from headrace_operator.objects.child import Child, Lane
from headrace_operator.objects.group import heads, members
from headrace_operator.objects.models import fetch_job, models_claim
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.policy import workers_policy
from headrace_operator.objects.pool import llm_pool
from headrace_operator.objects.router import router_binding, router_deployment, router_role
from headrace_operator.objects.scaledobject import scaled_objects
from headrace_operator.objects.secret import handoff_secret
from headrace_operator.objects.service import endpoint_service, workers_service
from headrace_operator.objects.settings import config_map
from headrace_operator.objects.site import Site
from headrace_operator.objects.worker import worker_deployment


def deployment_children(
    deployment: LLMDeployment, pools: Sequence[Pool], site: Site, *, secret: str
) -> tuple[Child, ...]:
    """Return the objects of an LLMDeployment.

    Args:
        deployment: the resource.
        pools: its pools as they should be now, stamped with revision and pairing; `replicas` is what each Deployment
            gets. Deployments of older revisions are not made here: what they were made of is gone.
        site: see there.
        secret: random text, used where the Secret is not there yet.
    """
    owner, front = Owner.of(deployment), deployment.spec.router
    own = _worker_children(deployment, pools, site, secret)
    if not front.enabled:
        return _ordered(own)
    drain_s = deployment.spec.rollout.drain_timeout_s
    router = router_deployment(owner, (owner.name,), site, replicas=front.replicas, drain_s=drain_s)
    return _ordered((*own, *_front_children(owner, router)))


def router_children(router: LLMRouter, site: Site) -> tuple[Child, ...]:
    """Return the objects of an LLMRouter."""
    owner, spec = Owner.of(router), router.spec
    served = tuple(name for _, name in spec.deployments)
    return _ordered(_front_children(owner, router_deployment(owner, served, site, replicas=spec.replicas, spec=spec)))


def _worker_children(deployment: LLMDeployment, pools: Sequence[Pool], site: Site, secret: str) -> Iterator[Child]:
    owner = Owner.of(deployment)
    yield Child(worker_account(owner), Lane.FIRST)
    yield Child(handoff_secret(owner, secret), Lane.FIRST, once=True)
    if (claim := models_claim(deployment)) is not None:
        yield Child(claim, Lane.FIRST)
    if (job := fetch_job(deployment, site)) is not None:
        yield Child(job, Lane.FIRST, once=True)
    for pool in pools:
        yield Child(config_map(deployment, pool, site), Lane.FIRST)
    for pool in pools:
        for manifest in _makers(deployment, pool, site):
            yield Child(manifest, Lane.FIRST)
    for pool in pools:
        yield Child(llm_pool(owner, pool.role), Lane.LATER)
        yield Child(role_budget(owner, pool.role, nodes=pool.nodes), Lane.LATER)
    if site.keda:
        for manifest in scaled_objects(deployment, site):
            yield Child(manifest, Lane.LATER)
    yield Child(workers_service(owner), Lane.LATER)
    yield Child(workers_policy(owner, site), Lane.LATER)


def _makers(deployment: LLMDeployment, pool: Pool, site: Site) -> tuple[Manifest, ...]:
    """Return what makes the pods of a pool's workers."""
    if pool.nodes == 1:
        return (worker_deployment(deployment, pool, site),)
    return heads(deployment, pool, site), members(deployment, pool, site)


def _front_children(owner: Owner, deployment: Manifest) -> Iterator[Child]:
    yield Child(router_account(owner), Lane.FIRST)
    yield Child(deployment, Lane.FIRST)
    # a binding to a role that is not there yet is refused, unless one may bind any role
    yield Child(router_role(owner), Lane.FIRST)
    yield Child(router_binding(owner), Lane.LATER)
    yield Child(endpoint_service(owner), Lane.LATER)
    yield Child(router_budget(owner), Lane.LATER)


def _ordered(children: Iterable[Child]) -> tuple[Child, ...]:
    """Return the urgent ones first, accounts before all: a pod is not admitted before its account is there."""
    return tuple(sorted(children, key=lambda child: (child.lane is Lane.LATER, child.kind != "ServiceAccount")))
