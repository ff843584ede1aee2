"""KEDA's ScaledObjects: one for each LLMPool, which it scales through the pool's `scale` subresource."""

from collections.abc import Iterator, Mapping
from typing import Final

from headrace_api import names as api
from headrace_api.names import API_VERSION
from headrace_api.resources import LLMDeployment
from headrace_api.resources.quantity import parse_amount
from headrace_api.resources.scaling import Lower, Raise, ScalingSpec
from headrace_operator.desired import Role
from headrace_operator.objects import labels, names
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.resources import GPU, requirements
from headrace_operator.objects.site import Site
from headrace_operator.plan import pools_of
from headrace_operator.scaling.bound import Numbers, afforded, cost, paired
from headrace_operator.scaling.demand import BUSY
from headrace_operator.scaling.terms import Bounds, Pace, Terms, terms_of

PAUSED: Final = "autoscaling.keda.sh/paused"
METRIC: Final = "workers"
"""Name of the one metric of `external-push`: the workers that the policy wants."""
_POLL_S: Final = 15
_LABEL: Final = {
    "deployment": api.LABEL_DEPLOYMENT.replace(".", "_").replace("/", "_").replace("-", "_"),
    "role": api.LABEL_ROLE.replace(".", "_").replace("/", "_").replace("-", "_"),
}
"""As Prometheus spells the labels of pods that the chart's PodMonitor hands on."""


def terms(deployment: LLMDeployment, site: Site) -> Terms:
    """Return what a deployment asks of scaling; with the GPUs that its workers take."""
    spec = deployment.spec
    accelerator = site.accelerator(spec.accelerator)
    gpus: dict[Role, int] = {}
    for pool in pools_of(deployment):
        workers = spec.prefill if pool.role == "prefill" else spec.decode
        needs = requirements(workers, spec.kv, accelerator, spec.parallelism.tensor)
        stated = {**needs.get("requests", {}), **needs.get("limits", {})}
        gpus[pool.role] = int(parse_amount(str(stated.get(GPU, "0"))))
    return terms_of(deployment, spec.scaling or ScalingSpec(), gpus)


def scaled_objects(deployment: LLMDeployment, site: Site) -> Iterator[Manifest]:
    """Yield the ScaledObjects of a deployment that asks for scaling."""
    scaling = deployment.spec.scaling
    if scaling is None:
        return
    owner, asked = Owner.of(deployment), terms(deployment, site)
    tops = ceilings(asked)
    for role, bounds in asked.pools.items():
        name = names.pool(owner.name, role)
        spec = {
            "scaleTargetRef": {"apiVersion": API_VERSION, "kind": "LLMPool", "name": name},
            "pollingInterval": _POLL_S,
            "cooldownPeriod": 0 if scaling.trigger == "external-push" else round(asked.idle_s),
            "minReplicaCount": bounds.least,
            "maxReplicaCount": max(1, bounds.least, tops[role]),
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(scaling, asked)}},
            "triggers": list(_triggers(owner, role, scaling, asked, site)),
        }
        manifest = owner.manifest("ScaledObject", "keda.sh/v1alpha1", name, labels.of_role(owner, role), spec=spec)
        if scaling.paused:
            manifest["metadata"]["annotations"] = {PAUSED: "true"}
        yield manifest


def ceilings(asked: Terms) -> Numbers:
    """Return the most workers of each pool, in the ratio and within the GPUs beside the least of the other pool."""
    tops = {role: bounds.most for role, bounds in asked.pools.items()}
    if asked.ratio is not None:
        return afforded(paired(tops, asked), asked)
    if asked.gpus is None:
        return tops
    return {role: min(top, _left(role, asked, asked.gpus)) for role, top in tops.items()}


def _left(role: Role, asked: Terms, budget: int) -> int:
    """Return the workers of a pool that the GPUs suffice for while all other pools have their least."""
    each = asked.pools[role].gpus
    others: Mapping[Role, Bounds] = {other: bounds for other, bounds in asked.pools.items() if other != role}
    taken = cost({other: bounds.least for other, bounds in others.items()}, others)
    return (budget - taken) // each if each else asked.pools[role].most


def _behavior(scaling: ScalingSpec, asked: Terms) -> Manifest:
    """Return how fast the HorizontalPodAutoscaler moves: at once, where the policy has seen to that already."""
    if scaling.trigger == "external-push":
        at_once = [{"type": "Pods", "value": 1024, "periodSeconds": 15}]
        return {
            "scaleUp": {"stabilizationWindowSeconds": 0, "policies": at_once},
            "scaleDown": {"stabilizationWindowSeconds": 0, "policies": at_once},
        }
    return {"scaleUp": _rule(scaling.up, asked.up), "scaleDown": _rule(scaling.down, asked.down)}


def _rule(spec: Raise | Lower, pace: Pace) -> Manifest:
    share = isinstance(spec.change, str)
    value = int(str(spec.change).removesuffix("%"))
    policy = {"type": "Percent" if share else "Pods", "value": value, "periodSeconds": max(1, round(pace.every_s))}
    return {"stabilizationWindowSeconds": round(pace.window_s), "policies": [policy]}


def _triggers(owner: Owner, role: Role, scaling: ScalingSpec, asked: Terms, site: Site) -> Iterator[Manifest]:
    pool = names.pool(owner.name, role)
    if scaling.trigger == "external-push":
        yield {"type": "external-push", "metadata": {"scalerAddress": site.scaler_address, "pool": pool}}
        return
    for location, target in _signals(role, asked):
        if scaling.prometheus is not None and scaling.trigger == "prometheus":
            metadata = {
                "serverAddress": scaling.prometheus.address,
                "query": _query(owner, role, location),
                "threshold": f"{target:g}",
                "ignoreNullValues": "false",
            }
            yield {"type": "prometheus", "name": location, "metadata": metadata}
        else:
            url = f"{site.scaler_url}/scaling/{owner.namespace}/{pool}"
            metadata = {"url": url, "valueLocation": location, "targetValue": f"{target:g}"}
            yield {"type": "metrics-api", "name": location, "metadata": metadata}


WAITING: Final = "requestsWaiting"
TOKENS: Final = "promptTokensWaiting"
BUSY_WORKERS: Final = "workersBusy"
RUNNING: Final = "requestsRunning"
USED: Final = "kvUsed"


def _signals(role: Role, asked: Terms) -> Iterator[tuple[str, float]]:
    """Yield the signals by which a pool is scaled, each with what one worker may have of it."""
    yield WAITING, asked.waiting
    if role != "decode":
        yield TOKENS, asked.tokens
    if role == "prefill":
        yield BUSY_WORKERS, BUSY
    else:
        yield RUNNING, asked.running
        yield USED, asked.used


def _query(owner: Owner, role: Role, signal: str) -> str:
    """Return what Prometheus is asked for a signal.

    A worker that Prometheus lost sight of must not count as one without load: where the workers of a pool say nothing
    the answer is what waits in routers, if those know of no worker, and else empty, which KEDA takes for an error.
    """
    own = f'namespace="{owner.namespace}",{_LABEL["deployment"]}="{owner.name}",{_LABEL["role"]}="{role}"'
    front = f'namespace="{owner.namespace}",model="{owner.name}"'
    told = {
        WAITING: f"sum({api.REQUESTS_WAITING}{{{own}}}) - (sum({api.REQUESTS_REMOTE}{{{own}}}) or vector(0))",
        TOKENS: f"sum({api.PROMPT_TOKENS_WAITING}{{{own}}})",
        BUSY_WORKERS: f"sum(avg_over_time(clamp_max({api.REQUESTS_RUNNING}{{{own}}}, 1)[1m:]))",
        RUNNING: f"sum({api.REQUESTS_RUNNING}{{{own}}})",
        USED: f'sum(sum by (pod) ({api.KV_BLOCKS}{{{own},state=~"active|granted|quarantined"}}) '
        f"/ sum by (pod) ({api.KV_BLOCKS_CAPACITY}{{{own}}}))",
    }[signal]
    held = f"sum({api.ROUTER_HELD_REQUESTS}{{{front}}}){'' if signal == WAITING else ' * 0'}"
    return f'({told}) or ({held} unless sum({api.ROUTER_WORKERS}{{{front},role="{role}"}}) > 0)'
