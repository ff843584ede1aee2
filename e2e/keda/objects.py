"""What KEDA is made of in a cluster: pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final

from e2e.cluster.security import CONTAINER, POD

Object = dict[str, Any]

NAMESPACE: Final = "keda"
OPERATOR: Final = "keda-operator"
METRICS: Final = "keda-metrics-apiserver"
GROUP: Final = "external.metrics.k8s.io"
CERTIFICATES: Final = "kedaorg-certs"
"""The Secret in which both programs look for their certificate and its authority."""

_HTTPS: Final = 6443
_METRICS_SERVICE: Final = 9666
_FOLDER: Final = "/certs"
_ALL: Final = ["get", "list", "watch", "create", "update", "patch", "delete"]
_LOOK: Final = ["get", "list", "watch"]
_CHANGE: Final = [*_LOOK, "update", "patch"]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its key, and that of the authority that signed it, all in PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


def names() -> tuple[str, ...]:
    """Return the names under which KEDA's two programs are called, which their certificate must bear."""
    short = [f"{service}.{NAMESPACE}.svc" for service in (OPERATOR, METRICS)]
    return *short, *(f"{name}.cluster.local" for name in short)


def objects(operator: str, adapter: str, certificate: Certificate) -> list[Object]:
    """Return everything but the custom resources.

    Args:
        operator: Image of KEDA's operator.
        adapter: Image of its server of external metrics.
        certificate: For the names of `names`. Without one KEDA makes its own, and waits until the kubelet has
            brought it, which takes up to a minute.
    """
    secret = {"ca.crt": certificate.authority, "tls.crt": certificate.certificate, "tls.key": certificate.key}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        },
        _own("v1", "ServiceAccount", OPERATOR),
        {
            **_own("v1", "Secret", CERTIFICATES),
            "data": {name: base64.b64encode(content).decode() for name, content in secret.items()},
        },
        *_rights(),
        _deployment(OPERATOR, operator, _OPERATOR_FLAGS, "HTTP", 8081),
        _service(OPERATOR, _METRICS_SERVICE, _METRICS_SERVICE),
        _deployment(METRICS, adapter, _METRICS_FLAGS, "HTTPS", _HTTPS),
        _service(METRICS, 443, _HTTPS),
        _registration(certificate.authority),
    ]


_OPERATOR_FLAGS: Final = (
    f"--cert-dir={_FOLDER}",
    f"--metrics-service-bind-address=:{_METRICS_SERVICE}",
    "--zap-log-level=info",
)
_METRICS_FLAGS: Final = (
    f"--secure-port={_HTTPS}",
    f"--cert-dir={_FOLDER}",
    f"--client-ca-file={_FOLDER}/ca.crt",
    f"--tls-cert-file={_FOLDER}/tls.crt",
    f"--tls-private-key-file={_FOLDER}/tls.key",
    f"--metrics-service-address={OPERATOR}.{NAMESPACE}.svc.cluster.local:{_METRICS_SERVICE}",
    "--zap-log-level=error",
)


def _deployment(name: str, image: str, flags: tuple[str, ...], scheme: str, port: int) -> Object:
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "keda"}
    container: Object = {
        "name": "keda",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": list(flags),
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "WATCH_NAMESPACE", "value": ""},
        ],
        "readinessProbe": {"httpGet": {"scheme": scheme, "path": "/readyz", "port": port}, "periodSeconds": 1},
        "securityContext": CONTAINER,
        "volumeMounts": [
            {"name": "certificates", "mountPath": _FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    pod: Object = {
        "serviceAccountName": OPERATOR,
        "terminationGracePeriodSeconds": 1,
        "securityContext": POD,
        "containers": [container],
        "volumes": [
            {"name": "certificates", "secret": {"secretName": CERTIFICATES, "defaultMode": 0o440}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    return {
        **_own("apps/v1", "Deployment", name),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _service(name: str, port: int, target: int) -> Object:
    ports = [{"name": "grpc" if port == target else "https", "port": port, "targetPort": target}]
    return {
        **_own("v1", "Service", name),
        "spec": {"selector": {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "keda"}, "ports": ports},
    }


def _registration(authority: bytes) -> Object:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": NAMESPACE, "name": METRICS},
            "caBundle": base64.b64encode(authority).decode(),
        },
    }


def _rights() -> list[Object]:
    """Return the roles: those that KEDA's own manifests give it, and who may read its metrics."""
    anything = [
        _rule("*", ["*"], ["get"]),
        _rule("*", ["*/scale"], _CHANGE),
        _rule("", ["configmaps", "pods", "secrets", "services", "limitranges", "serviceaccounts"], _LOOK),
        _rule("discovery.k8s.io", ["endpointslices"], _LOOK),
        _rule("events.k8s.io", ["events"], ["create", "patch"]),
        _rule("", ["events"], ["create", "patch"]),
        _rule("apps", ["deployments", "replicasets", "statefulsets"], _LOOK),
        _rule("autoscaling", ["horizontalpodautoscalers"], _ALL),
        _rule("batch", ["jobs"], _ALL),
        _rule("keda.sh", ["*"], _CHANGE),
        _rule("eventing.keda.sh", ["*"], _CHANGE),
    ]
    reader = [_rule(GROUP, ["*"], ["*"])]
    here = [_rule("coordination.k8s.io", ["leases"], _ALL)]
    account = {"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}
    autoscaler = {"kind": "ServiceAccount", "name": "horizontal-pod-autoscaler", "namespace": "kube-system"}
    return [
        _role("ClusterRole", OPERATOR, anything),
        _binding("ClusterRole", OPERATOR, OPERATOR, account),
        _role("Role", OPERATOR, here, NAMESPACE),
        _binding("Role", OPERATOR, OPERATOR, account, NAMESPACE),
        _role("ClusterRole", "keda-external-metrics-reader", reader),
        _binding("ClusterRole", "keda-external-metrics-reader", "keda-external-metrics-reader", autoscaler),
        # as every server that the API server asks on behalf of others
        _binding("ClusterRole", "keda-auth-delegator", "system:auth-delegator", account),
        _binding("Role", "keda-auth-reader", "extension-apiserver-authentication-reader", account, "kube-system"),
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _role(kind: str, name: str, rules: list[Object], namespace: str | None = None) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": _metadata(name, namespace),
        "rules": rules,
    }


def _binding(kind: str, name: str, role: str, subject: Object, namespace: str | None = None) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": f"{kind}Binding",
        "metadata": _metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [subject],
    }


def _metadata(name: str, namespace: str | None) -> Object:
    return {"name": name} if namespace is None else {"name": name, "namespace": namespace}


def _own(version: str, kind: str, name: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}}
