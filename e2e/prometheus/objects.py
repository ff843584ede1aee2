"""What Prometheus is made of in a namespace, and what it reads there: pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from e2e.cluster.security import CONTAINER, POD
from e2e.prometheus import discovery

Object = dict[str, Any]

NAME: Final = "prometheus"

_PORT: Final = 9090
_LOOK_S: Final = 2
_FOLDER: Final = "/etc/prometheus"
_FILE: Final = "prometheus.yml"
_PREFIX: Final = "serving.headrace.dev/"
_HANDED_ON: Final = ("deployment", "router", "role")


def address(namespace: str) -> str:
    """Return where it answers."""
    return f"http://{NAME}.{namespace}.svc:{_PORT}"


def configuration() -> Object:
    """Return its configuration: workers and routers of its own namespace, labelled as the chart's PodMonitor does."""
    renamed = {"namespace": "namespace", "pod": "pod_name", "container": "pod_container_name"}
    renamed |= {_spelled(_PREFIX + label): f"pod_label_{_spelled(_PREFIX + label)}" for label in _HANDED_ON}
    return {
        "global": {"scrape_interval": f"{_LOOK_S}s", "scrape_timeout": f"{_LOOK_S}s"},
        "scrape_configs": [
            {
                "job_name": "headrace-serving",
                "http_sd_configs": [{"url": f"http://127.0.0.1:{discovery.PORT}", "refresh_interval": f"{_LOOK_S}s"}],
                "relabel_configs": [
                    _chosen("keep", "pod_label_app_kubernetes_io_name", "headrace-worker|headrace-router"),
                    _chosen("keep", "pod_container_port_name", "http"),
                    _chosen("drop", "pod_phase", "Failed|Succeeded"),
                    *(
                        {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": label}
                        for label, source in renamed.items()
                    ),
                ],
            }
        ],
    }


def objects(image: str, python: str) -> list[Object]:
    """Return everything that it is made of; they take the namespace that they are applied to.

    Args:
        image: Its entrypoint is the program.
        python: Any image with Python.
    """
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    group = "rbac.authorization.k8s.io"
    return [
        _named("v1", "ServiceAccount"),
        {**_named(f"{group}/v1", "Role"), "rules": rules},
        {
            **_named(f"{group}/v1", "RoleBinding"),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME}],
        },
        {**_named("v1", "ConfigMap"), "data": {_FILE: json.dumps(configuration())}},
        {**_named("v1", "Service"), "spec": {"selector": _labels(), "ports": [{"name": "http", "port": _PORT}]}},
        _pod(image, python),
    ]


def _pod(image: str, python: str) -> Object:
    program = {
        "args": [f"--config.file={_FOLDER}/{_FILE}", "--storage.tsdb.path=/tmp/data"],
        "ports": [{"name": "http", "containerPort": _PORT}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": "http"}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "configuration", "mountPath": _FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    script = Path(discovery.__file__).read_text()
    return {
        **_named("v1", "Pod"),
        "spec": {
            "serviceAccountName": NAME,
            "terminationGracePeriodSeconds": 1,
            "securityContext": POD,
            "containers": [
                _container(NAME, image, program),
                _container("discovery", python, {"command": ["python", "-c", script]}),
            ],
            "volumes": [
                {"name": "configuration", "configMap": {"name": NAME}},
                {"name": "tmp", "emptyDir": {}},
            ],
        },
    }


def _container(name: str, image: str, more: Object) -> Object:
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "securityContext": CONTAINER, **more}


def _chosen(action: str, source: str, pattern: str) -> Object:
    return {"action": action, "source_labels": [f"__meta_kubernetes_{source}"], "regex": pattern}


def _spelled(label: str) -> str:
    """Return the name of a pod's label as Prometheus has it."""
    return "".join(letter if letter.isalnum() else "_" for letter in label)


def _labels() -> Object:
    return {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": NAME}


def _named(version: str, kind: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": NAME, "labels": _labels()}}
