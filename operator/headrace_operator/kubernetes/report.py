"""What the operator writes in the status of resources, as pure functions from the snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from headrace_api.resources import LLMDeployment, LLMRouter
from headrace_api.resources.cascade import JUDGING
from headrace_operator.desired import Desired, Pool
from headrace_operator.objects import Owner, labels
from headrace_operator.observed import Observed, Phase, Worker
from headrace_operator.routing import usable_workers
from headrace_operator.status import Condition, conditions

_ENDS: Final = frozenset({Phase.DRAINING, Phase.DEAD})


def deployment_status(
    deployment: LLMDeployment,
    desired: Desired,
    observed: Observed,
    *,
    problems: Sequence[str],
    refused: Sequence[str],
    trials: Sequence[str],
    previous: Mapping[str, Any],
    now: str,
    scaled: Condition | None = None,
) -> dict[str, Any]:
    """Return the status of an LLMDeployment.

    Args:
        deployment: the resource.
        desired: what it asks for.
        observed: what is.
        problems: why objects could not be made, in sentences.
        refused: why pods cannot be made, in sentences.
        trials: why trials of hand-offs failed, in sentences.
        previous: the status before; times of conditions that hold still are kept.
        now: the time, RFC 3339.
        scaled: who scales it, None where it does not ask for that.
    """
    name, namespace = deployment.metadata.name, deployment.metadata.namespace
    told = _with_problems(conditions(desired.deployments[0], desired, observed), problems, refused, trials)
    used = usable_workers(desired.deployments[0], observed)
    split = any(pool.role == "prefill" for pool in desired.pools)
    decoders = [pool for pool in desired.pools if pool.role != "prefill"]
    prefillers = [pool for pool in desired.pools if pool.role == "prefill"]
    return {
        "observedGeneration": deployment.metadata.generation,
        "conditions": stamped(
            (*told, *(() if scaled is None else (scaled,))), previous, deployment.metadata.generation, now
        ),
        "mode": "disaggregated" if split else "unified",
        "prefill": _role(prefillers, used),
        "decode": _role(decoders, used),
        "endpoint": f"http://{name}.{namespace}.svc" if deployment.spec.router.enabled else None,
        "revision": {
            "prefill": prefillers[0].revision if prefillers else None,
            "decode": decoders[0].revision if decoders else None,
        },
    }


def router_status(
    router: LLMRouter,
    phase: Phase | None,
    failure: str,
    *,
    missing: Sequence[str],
    waiting: Sequence[str],
    problems: Sequence[str],
    models: Sequence[str] | None,
    previous: Mapping[str, Any],
    now: str,
) -> dict[str, Any]:
    """Return the status of an LLMRouter.

    Args:
        router: the resource.
        phase: of its router; None while there is none.
        failure: what keeps the router from running, empty where nothing does.
        missing: sentences on tiers whose LLMDeployment is not there.
        waiting: sentences on tiers whose LLMDeployment is not Ready.
        problems: why objects could not be made, in sentences.
        models: what is wrong with the model files of its cascade, in sentences; None where it has none. Requests are
            served without them.
        previous: the status before.
        now: the time, RFC 3339.
    """
    listens = phase is Phase.READY
    text = "the router does not listen yet" + (f": {failure}" if failure else "")
    planned = not missing and not problems
    told = [
        Condition("Planned", planned, "; ".join([*problems, *missing]), "AsAsked" if planned else "Impossible"),
        Condition("RouterReady", listens, "" if listens else text, "AsAsked" if listens else "Starting"),
    ]
    texts = [*problems, *missing, *([] if listens else [text]), *waiting]
    reason = "AsAsked" if not texts else "Impossible" if not planned else "Starting" if not listens else "TierNotReady"
    told.append(Condition("Ready", not texts, "; ".join(texts), reason))
    if models is not None:
        text = "; ".join(models) or _blind(router)
        told.append(Condition("CascadeReady", not models, text, "ModelMissing" if models else "AsAsked"))
    return {
        "observedGeneration": router.metadata.generation,
        "conditions": stamped(told, previous, router.metadata.generation, now),
        "endpoint": f"http://{router.metadata.name}.{router.metadata.namespace}.svc",
    }


def _blind(router: LLMRouter) -> str:
    """Return a sentence on tiers whose answers the gate judges without their log-probabilities; empty without any."""
    cascade, judged = router.spec.cascade, router.spec.tiers[:-1]
    names = [tier.name for tier in judged if tier.endpoint is not None]
    if not names or cascade is None or not cascade.policies & {*JUDGING}:
        return ""
    return f"the endpoint of {', '.join(names)} tells no log-probabilities; the gate judges by its other features"


def pool_status(owner: Owner, pool: Pool, observed: Observed, generation: int) -> dict[str, Any]:
    """Return the status of an LLMPool; `pool` is the newest revision of its role, and all of them are counted."""
    workers = [one for one in observed.workers if one.role == pool.role and one.phase not in _ENDS]
    used = [one for one in usable_workers(pool.deployment, observed) if one.role == pool.role]
    return {
        "observedGeneration": generation,
        "replicas": len(workers),
        "readyReplicas": len(used),
        "selector": labels.spell(labels.select_role(owner, pool.role)),
        "revision": pool.revision,
    }


def stamped(
    told: Iterable[Condition], previous: Mapping[str, Any], generation: int | None, now: str
) -> list[dict[str, Any]]:
    """Return conditions as the status has them; the time of a transition is kept where the status is as before."""
    before = {one["type"]: one for one in previous.get("conditions", ())}
    found = []
    for condition in told:
        status = "True" if condition.holds else "False"
        known = before.get(condition.type, {})
        found.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message,
                "observedGeneration": generation,
                "lastTransitionTime": known["lastTransitionTime"] if known.get("status") == status else now,
            }
        )
    return found


def is_urgent(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether somebody may wait for this change: a condition turned.

    Numbers and messages move with every pod; they can wait to be written together. So can the first status of all,
    unless it is that everything is well.
    """
    if not before.get("conditions"):
        return condition_of(after, "Ready").get("status") == "True"
    return _statuses(before) != _statuses(after)


def condition_of(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """Return a condition of a status, empty where it is not told."""
    return next((one for one in status.get("conditions", ()) if one["type"] == kind), {})


def _statuses(status: Mapping[str, Any]) -> dict[str, str]:
    return {one["type"]: one["status"] for one in status.get("conditions", ())}


def _role(pools: Sequence[Pool], used: Sequence[Worker]) -> dict[str, Any] | None:
    if not pools:
        return None
    wanted = pools[0].replicas
    ready = sum((one.role == "prefill") == (pools[0].role == "prefill") for one in used)
    return {"replicas": wanted, "ready": ready, "summary": f"{ready}/{wanted}"}


def _with_problems(
    told: Sequence[Condition], problems: Sequence[str], refused: Sequence[str], trials: Sequence[str]
) -> tuple[Condition, ...]:
    """Return the conditions with Planned before them, and with what went wrong where it belongs."""
    planned = Condition("Planned", not problems, "; ".join(problems), "Impossible" if problems else "AsAsked")
    causes = {"PrefillReady": refused, "DecodeReady": refused, "KVTransferVerified": trials[:1]}
    parts = [_explained(one, causes.get(one.type, ())) for one in told[:-1]]
    return planned, *parts, _summed(told[-1], [*problems, *refused, *trials[:1]], is_planned=not problems)


def _explained(one: Condition, causes: Sequence[str]) -> Condition:
    """Return a condition that does not hold with its causes."""
    return one if one.holds or not causes else replace(one, message="; ".join([one.message, *causes]))


def _summed(ready: Condition, causes: Sequence[str], *, is_planned: bool) -> Condition:
    """Return Ready with the causes before what is missing by them."""
    if ready.holds and is_planned:
        return ready
    message = "; ".join(part for part in (*causes, ready.message) if part)
    return replace(ready, holds=False, message=message, reason=ready.reason if is_planned else "Impossible")
