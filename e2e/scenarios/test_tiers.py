"""Two deployments as tiers of an LLMRouter: a gate in a ConfigMap decides which of them answers, and may change."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from e2e.scenarios.space import wait_for
from e2e.scenarios.world import manifest

if TYPE_CHECKING:
    from e2e.scenarios.space import Object, Space

pytestmark = pytest.mark.usefixtures("operator")

FRONT: Final = "front"
GATE: Final = "gate"
SMALL, LARGE = "small", "large"
PASSES, DOUBTS = 1.0, 0.0
"""Thresholds of a gate that lets every answer pass, and of one that lets none."""
VOLUMES_TIMEOUT_S: Final = 180.0
"""A kubelet looks at ConfigMaps once a minute, and caches them as long."""
_ASK: Final = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=120)
connection.request("POST", "/v1/chat/completions", sys.argv[1], {"content-type": "application/json"})
answer = connection.getresponse()
print(json.dumps([answer.status, dict(answer.getheaders()), json.loads(answer.read())]))
"""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request for `auto` was answered."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def tiers(self) -> str | None:
        """The tiers that were tried."""
        return self.headers.get("x-headrace-tier")

    @property
    def costs(self) -> list[str]:
        """Tiers on the bill."""
        return [tier["tier"] for tier in self.body["usage"]["cost"]["tiers"]]


def test_a_gate_in_a_config_map_decides_which_tier_answers(space: Space) -> None:
    alone = {"disaggregation": "never", "router": {"enabled": False}}
    space.apply(_gate(PASSES), manifest(SMALL, **alone), manifest(LARGE, **alone), _front())
    for name in (SMALL, LARGE):
        space.wait_ready(name, timeout_s=300)
    wait_for(lambda: _serves(space), 120, "The router does not see both tiers")

    reply = _ask(space)
    assert (reply.status, reply.tiers, reply.costs) == (200, SMALL, [SMALL])
    assert "x-headrace-degraded" not in reply.headers
    text = _said(reply)

    before = _router(space)
    space.apply(_gate(DOUBTS))
    wait_for(lambda: _ask(space).tiers == f"{SMALL},{LARGE}", VOLUMES_TIMEOUT_S, "The new gate does not judge")
    reply = _ask(space)
    assert (reply.status, reply.costs) == (200, [SMALL, LARGE])
    assert _said(reply) == text, "the same weights in float32"
    assert _router(space) == before, "no router was started anew for it"

    space.delete("llmdeployments.serving.headrace.dev", LARGE)
    reply = _ask(space, deadline=5)
    assert (reply.status, _said(reply)) == (200, text)
    assert reply.headers["x-headrace-degraded"] == "true"
    assert reply.body["degraded"] is True


def _gate(threshold: float) -> Object:
    """Return a gate that expects a gain of one half of every answer."""
    level = {
        "features": ["tokens"],
        "scale": {"centre": [0.0], "spread": [1.0]},
        "logistic": {"weights": [0.0], "bias": 0.0},
        "curve": {"scores": [0.0], "values": [0.5]},
    }
    thresholds = [{"target": target, "gain": threshold, "calls": 0.5, "rows": 100} for target in (0.5, 1.0)]
    stage = {"sighted": level, "blind": level, "thresholds": thresholds}
    file = {
        "format": "headrace-cascade",
        "kind": "gate",
        "version": 1,
        "weak": SMALL,
        "strong": LARGE,
        "commit_tokens": 4,
        "training": {"rows": 100, "files": ["none"], "seed": 0},
        "prefix": stage,
        "whole": stage,
    }
    data = {"gate.json": json.dumps(file)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": GATE}, "data": data}


def _front() -> Object:
    tiers = [{"name": name, "deployment": name, "price": {"gpuHour": 1}} for name in (SMALL, LARGE)]
    return {
        "apiVersion": "serving.headrace.dev/v1alpha1",
        "kind": "LLMRouter",
        "metadata": {"name": FRONT},
        "spec": {"tiers": tiers, "cascade": {"gate": {"configMap": {"name": GATE}}}},
    }


def _router(space: Space) -> str:
    pods = space.listed("pods", f"serving.headrace.dev/router={FRONT}")
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert len(names) == 1, names
    return str(names[0])


def _serves(space: Space) -> bool:
    pod = _router(space)
    return all(
        space.metric(pod, "headrace_router_workers", container="router", model=name, role="unified")
        + space.metric(pod, "headrace_router_workers", container="router", model=name, role="decode")
        for name in (SMALL, LARGE)
    )


def _ask(space: Space, **wishes: float) -> Reply:
    question = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": "auto", "messages": [question], "max_tokens": 12, "temperature": 0, **wishes}
    told = space.run("exec", _router(space), "--", "python", "-c", _ASK, json.dumps(body), timeout_s=150)
    status, headers, answer = json.loads(told)
    return Reply(status, {name.lower(): value for name, value in headers.items()}, answer)


def _said(reply: Reply) -> str:
    return str(reply.body["choices"][0]["message"]["content"])
