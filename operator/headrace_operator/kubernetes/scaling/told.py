"""The condition by which a deployment says who scales it, and what keeps that from working. Pure."""

from collections.abc import Sequence

from headrace_api.resources.scaling import ScalingSpec
from headrace_operator.status import Condition

TYPE = "ScalingActive"
_TOLD = 3


def starting() -> Condition:
    """Return the condition of a deployment whose pools are not there yet, or whose workers were not asked yet."""
    return Condition(TYPE, False, "the pools are not there yet, or nobody has looked at their load yet", "Starting")


def told(spec: ScalingSpec, *, keda: bool, silent: Sequence[str], sleepless: bool) -> Condition:
    """Return the condition.

    Args:
        spec: what the user asks for.
        keda: whether KEDA is there.
        silent: workers that serve and do not say what they have to do.
        sleepless: a pool may have no worker, and no router would wake it.
    """
    if spec.paused:
        return Condition(TYPE, False, "scaling.paused is set: numbers stay as they are", "Paused")
    who = _who(spec) if keda else "KEDA is not in this cluster: the operator scales by itself"
    notes = [who]
    if sleepless:
        notes.append("no router would wake a pool without workers, so that each keeps one")
    if silent and not (keda and spec.trigger == "prometheus"):
        more = len(silent) - _TOLD
        names = ", ".join(silent[:_TOLD]) + (f" and {more} more" if more > 0 else "")
        text = f"{names} do not say what they have to do, so that no number sinks; {who}"
        return Condition(TYPE, False, text, "MetricsMissing")
    return Condition(TYPE, True, "; ".join(notes), "Keda" if keda else "Operator")


def _who(spec: ScalingSpec) -> str:
    if spec.trigger == "prometheus" and spec.prometheus is not None:
        return f"KEDA scales by what Prometheus at {spec.prometheus.address} says"
    if spec.trigger == "metrics-api":
        return "KEDA scales by the load that the operator reads"
    return "KEDA scales by the numbers that the operator wants"
