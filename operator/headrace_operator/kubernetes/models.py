"""Model files of a cascade, as far as the cluster shows them: ConfigMaps that a router's pods mount."""

import json
from collections.abc import Mapping
from typing import Any, Final

from headrace_api.resources import LLMRouter
from headrace_api.resources.cascade import ModelMap
from headrace_operator.kubernetes.errors import NotFoundError
from headrace_operator.kubernetes.kinds import CONFIG_MAPS
from headrace_operator.kubernetes.session import Session

EVERY_S: Final = 60.0
"""Between two looks: they are the user's ConfigMaps, and not watched; a kubelet looks no more often."""


def wanted(router: LLMRouter) -> dict[str, ModelMap]:
    """Return the ConfigMaps that a router's cascade needs, by what is in them."""
    cascade = router.spec.cascade
    models = {} if cascade is None else {"gate": cascade.gate, "predictor": cascade.predictor}
    return {name: model.config_map for name, model in models.items() if model is not None and model.config_map}


async def problems(session: Session, router: LLMRouter) -> list[str]:
    """Return what is wrong with them, in sentences; raise ClusterError where they cannot be looked at."""
    found = []
    for name, place in wanted(router).items():
        try:
            whole = await session.read_whole(CONFIG_MAPS, router.metadata.namespace, place.name)
        except NotFoundError:
            whole = None
        wrong = problem(name, place, whole)
        if wrong is not None:
            found.append(wrong)
    return found


def problem(name: str, place: ModelMap, whole: Mapping[str, Any] | None) -> str | None:
    """Return what is wrong with a ConfigMap, None where it has a model file.

    Args:
        name: what should be in it, `gate` or `predictor`.
        place: where.
        whole: the ConfigMap; None where there is none.
    """
    remedy = f"kubectl create configmap {place.name} --from-file={place.key}=FILE"
    if whole is None:
        return f"the {name}'s ConfigMap {place.name} is not there; {remedy}"
    data = (whole.get("data") or {}).get(place.key)
    if data is None:
        return f"the {name}'s ConfigMap {place.name} has no key {place.key}; {remedy}"
    try:
        told = json.loads(data).get("format")
    except (ValueError, AttributeError):
        told = None
    if told != "headrace-cascade":
        return f"{place.key} in ConfigMap {place.name} is no model file; `headrace cascade train` writes one"
    return None
