"""From the cached objects of one LLMDeployment to the snapshot that the decision reads. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from headrace_api.names import LABEL_NAME, LABEL_PAIRING, LABEL_REVISION, LABEL_ROLE
from headrace_api.resources import LLMDeployment
from headrace_operator.desired import DeploymentName, Desired, PoolKey, Router
from headrace_operator.kubernetes import gates
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.kinds import CLAIMS, DEPLOYMENTS, JOBS, PODS, STATEFUL_SETS
from headrace_operator.kubernetes.objects import DeploymentItem, JobItem, PodItem, StatusCondition
from headrace_operator.kubernetes.pods import failure_of, is_ready, worker_of
from headrace_operator.objects import labels, names
from headrace_operator.objects.weights import Weights as Store
from headrace_operator.observed import (
    Failure,
    Observed,
    ObservedPool,
    ObservedRouter,
    Pair,
    Phase,
    Weights,
    Worker,
)

_ROLES: Final = frozenset({"prefill", "decode", "unified"})


def observe(
    deployment: LLMDeployment,
    desired: Desired,
    cache: Cache,
    *,
    fetch: str | None,
    verified: frozenset[str],
    probing: frozenset[Pair],
    resting: frozenset[Pair],
) -> Observed:
    """Return the snapshot of a deployment.

    Args:
        deployment: the resource.
        desired: what it asks for.
        cache: what is there.
        fetch: name of the Job that fetches its weights, None where nothing is fetched.
        verified: incarnations that this operator has tried; what pods say of themselves is added.
        probing: see `Observed`.
        resting: see `Observed`.
    """
    key = Key("LLMDeployment", deployment.metadata.namespace, deployment.metadata.name)
    pods = [pod for pod in cache.of(PODS, key) if LABEL_ROLE in pod.metadata.labels]
    workers = tuple(worker for pod in pods if (worker := worker_of(pod)) is not None)
    told = frozenset(incarnation for pod in pods if (incarnation := gates.proved(pod)) is not None)
    alive = frozenset(worker.incarnation for worker in workers)
    return Observed(
        pools=observed_pools(key.name, [*cache.of(DEPLOYMENTS, key), *cache.of(STATEFUL_SETS, key)]),
        workers=workers,
        router=_router(key, desired.router, cache),
        verified=(verified | told) & alive,
        probing=probing,
        resting=resting,
        weights=_weights(deployment, key, cache, fetch),
        routed=gates.routed(pods, [worker for worker in workers if worker.phase not in {Phase.DRAINING, Phase.DEAD}]),
    )


def observed_pools(name: str, deployments: Iterable[DeploymentItem]) -> tuple[ObservedPool, ...]:
    """Return the pools that the Deployments and StatefulSets of workers are, the oldest first."""
    found = [one for one in deployments if one.metadata.labels.get(LABEL_ROLE) in _ROLES]
    found.sort(key=lambda one: (one.metadata.creation_timestamp, one.metadata.name))
    return tuple(
        ObservedPool(
            key_of(name, one),
            one.spec.replicas,
            one.metadata.labels.get(LABEL_PAIRING, ""),
            draining=one.metadata.deletion_timestamp is not None,
        )
        for one in found
    )


def key_of(name: str, deployment: DeploymentItem) -> PoolKey:
    """Return the pool that a Deployment of workers is."""
    own = deployment.metadata.labels
    return PoolKey(DeploymentName(name), own[LABEL_ROLE], own.get(LABEL_REVISION, ""))  # type: ignore[arg-type]


def refusals(deployments: Iterable[DeploymentItem]) -> list[str]:
    """Return why pods cannot be made, in the words of the API server: a quota, an admission rule, a missing account."""
    return [
        f"{one.metadata.name} cannot make its pods: {condition.message}"
        for one in deployments
        for condition in one.status.conditions
        if condition.type == "ReplicaFailure" and condition.status == "True"
    ]


def router_phase(key: Key, cache: Cache) -> tuple[Phase, Failure | None] | None:
    """Return how the router of a resource is; None where it has none."""
    deployment = cache.get(DEPLOYMENTS, key.namespace, names.router(key.name))
    if deployment is None or deployment.metadata.deletion_timestamp is not None:
        return None
    if deployment.status.ready_replicas:
        return Phase.READY, None
    pods = [pod for pod in cache.of(PODS, key) if pod.metadata.labels.get(LABEL_NAME) == labels.ROUTER]
    failures = [failure for pod in pods if (failure := failure_of(pod)) is not None]
    refused = refusals([deployment])
    if refused:
        failures.append(Failure(1, refused[0]))
    return Phase.STARTING, failures[0] if failures else None


def _router(key: Key, wanted: Router | None, cache: Cache) -> ObservedRouter | None:
    """Return the router; it chooses from the pods that are Ready, as it sees them by its own watch."""
    found = router_phase(key, cache)
    if found is None:
        return None
    phase, failure = found
    ready = frozenset(worker.url for worker in _ready_workers(cache.of(PODS, key)) if worker.url is not None)
    serves = Router(frozenset({DeploymentName(key.name)}))
    return ObservedRouter(wanted or serves, phase, f"http://{key.name}.{key.namespace}.svc", failure, ready)


def _ready_workers(pods: Sequence[PodItem]) -> Iterable[Worker]:
    return (worker for pod in pods if is_ready(pod) and (worker := worker_of(pod)) is not None)


def _weights(deployment: LLMDeployment, key: Key, cache: Cache, fetch: str | None) -> Weights | None:
    """Return how far the weights are; None where workers bring their own."""
    store = Store.of(deployment)
    if fetch is None or not store.cached:
        return None
    job = cache.get(JOBS, key.namespace, fetch)
    if job is None:
        return Weights(ready=False, message="the Job that fetches the model is not made yet")
    if job.status.succeeded:
        return Weights(ready=True)
    return Weights(ready=False, message=_fetching(job, key, store, cache))


def _fetching(job: JobItem, key: Key, store: Store, cache: Cache) -> str:
    """Say what the Job waits for, the nearest cause first."""
    claim = cache.get(CLAIMS, key.namespace, store.claim or "")
    pods = [pod for pod in cache.of(PODS, key) if pod.metadata.name.startswith(f"{job.metadata.name}-")]
    failures = [failure.message for pod in pods if (failure := failure_of(pod)) is not None]
    if failures:
        waits = f"; claim {store.claim} is {claim.status.phase}" if claim and claim.status.phase != "Bound" else ""
        return f"Job {job.metadata.name} cannot fetch the model yet: {failures[0]}{waits}"
    stopped = _true(job.status.conditions, "Failed")
    if stopped is not None:
        return f"Job {job.metadata.name} has failed: {stopped.message}; delete it to try again"
    return f"Job {job.metadata.name} fetches the model"


def _true(conditions: Iterable[StatusCondition], kind: str) -> StatusCondition | None:
    return next((one for one in conditions if one.type == kind and one.status == "True"), None)
