"""The pod template of a worker."""

import math
from typing import Any, Final

from headrace_api.names import CONDITION_KV_TRANSFER
from headrace_api.resources import LLMDeployment
from headrace_api.resources.pods import Workers
from headrace_operator.desired import Pool, Role
from headrace_operator.objects import disk, labels, names, placement, security
from headrace_operator.objects.images import image_fields, pull_secrets
from headrace_operator.objects.merge import merge
from headrace_operator.objects.owner import Manifest, Owner
from headrace_operator.objects.resources import GPU, requirements, shared_memory
from headrace_operator.objects.settings import FILE
from headrace_operator.objects.site import Site
from headrace_operator.objects.weights import Weights

HTTP_PORT: Final = 8000
_SETTINGS_FOLDER: Final = "/etc/headrace"
_EXIT_S: Final = 15
"""What ending takes after the last answer: closing the transfers and the model's processes."""
LOAD_S: Final = 1800
"""How long a worker may load before it is started again; weights may come from a slow volume."""


def pod_template(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    """Return the pod template of a pool: ours, under the user's, under the labels that selectors need."""
    owner, spec = Owner.of(deployment), deployment.spec
    template: Manifest = {"metadata": {}, "spec": _pod(deployment, pool, site)}
    for over in (spec.template, workers_of(deployment, pool.role).template):
        template = merge(template, over.manifest)
    forced = {
        "metadata": {"labels": labels.of_pool(owner, pool)},
        "spec": {"readinessGates": _gates(template["spec"].get("readinessGates", []))},
    }
    return merge(template, forced)


def workers_of(deployment: LLMDeployment, role: Role) -> Workers:
    """Return what the user says of the workers of a role; unified workers are told by `decode`."""
    return deployment.spec.prefill if role == "prefill" else deployment.spec.decode


def _pod(deployment: LLMDeployment, pool: Pool, site: Site) -> Manifest:
    owner, spec, workers = Owner.of(deployment), deployment.spec, workers_of(deployment, pool.role)
    accelerator, weights = site.accelerator(spec.accelerator), Weights.of(deployment)
    tolerations = [placement.toleration(one) for one in workers.tolerations]
    if accelerator == "nvidia":
        tolerations.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
    return {
        "serviceAccountName": names.worker_account(owner.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security.pod_security(),
        "terminationGracePeriodSeconds": math.ceil(spec.rollout.drain_timeout_s) + _EXIT_S,
        "readinessGates": _gates([]),
        **pull_secrets(site),
        **({"nodeSelector": dict(workers.node_selector)} if workers.node_selector else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        **placement.near_or_apart(owner, pool.role, one_node=weights.one_node),
        "containers": [_container(deployment, pool, site, weights)],
        "volumes": [
            {"name": "settings", "configMap": {"name": names.revision(owner.name, pool.role, pool.revision)}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory(accelerator)}},
            *disk.volumes(spec.kv),
            *weights.volumes(),
        ],
    }


def _container(deployment: LLMDeployment, pool: Pool, site: Site, weights: Weights) -> Manifest:
    spec = deployment.spec
    lock_memory = spec.kv.rdma is not None and spec.kv.rdma.lock_memory
    return {
        "name": "worker",
        **image_fields(site.worker_image, site),
        "command": ["python3", "-m", "headrace_worker"],
        "args": _arguments(),
        "env": [*_environment(deployment.metadata.name), *weights.environment],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "resources": requirements(
            workers_of(deployment, pool.role),
            spec.kv,
            site.accelerator(spec.accelerator),
            spec.parallelism.tensor // pool.nodes,
        ),
        "securityContext": security.container_security(lock_memory=lock_memory),
        **_probes(),
        "volumeMounts": [
            {"name": "settings", "mountPath": _SETTINGS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  # a volume of the pod's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  # likewise
            *disk.mounts(spec.kv),
            *weights.mounts(read_only=True),
        ],
    }


def _arguments() -> list[str]:
    return [
        *("--settings", f"{_SETTINGS_FOLDER}/{FILE}"),
        *("--worker", "$(POD_NAME)"),
        *("--host", "0.0.0.0"),  # noqa: S104  # the pod's own network
        *("--advertise", "$(POD_IP)"),
        *("--port", str(HTTP_PORT)),
        *("--incarnation-prefix", "$(POD_UID)"),
    ]


def _environment(name: str) -> list[Manifest]:
    fields = {"POD_NAME": "metadata.name", "POD_IP": "status.podIP", "POD_UID": "metadata.uid"}
    secret = {"name": names.handoff_secret(name), "key": "secret"}
    return [
        *({"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}} for variable, path in fields.items()),
        {"name": "HEADRACE_SECRET", "valueFrom": {"secretKeyRef": secret}},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108  # the one place that can be written
    ]


def _probes() -> Manifest:
    """Return the probes: long patience while it loads, none for traffic, some for a process that answers nothing."""
    ready: Manifest = {"httpGet": {"path": "/ready", "port": "http"}, "timeoutSeconds": 2}
    alive: Manifest = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    return {
        "startupProbe": {**ready, "periodSeconds": 1, "failureThreshold": LOAD_S},
        "readinessProbe": {**ready, "periodSeconds": 1, "failureThreshold": 3},
        "livenessProbe": {**alive, "periodSeconds": 10, "failureThreshold": 6},
    }


def _gates(theirs: Any) -> Any:
    """Return the readiness gates with ours among them: without it a pod would get traffic before it was proved.

    What is no list is left as it is written, for the API server to refuse in its own words.
    """
    if not isinstance(theirs, list):
        return theirs
    ours = {"conditionType": CONDITION_KV_TRANSFER}
    return [*(gate for gate in theirs if gate != ours), ours]
