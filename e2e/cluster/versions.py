"""What the cluster is made of: every program with its module and version, pinned in this one place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

KUBERNETES: Final = "v1.34.4"
STAGING: Final = "v0.34.4"
"""Version under which the libraries that live inside the Kubernetes repository are published."""

RECIPE: Final = 1
"""Raise it when the way of building changes, so that caches made by the old way are left alone."""


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module that programs are built from; all its programs share one go.mod of ours."""

    name: str
    """Name of the folder that holds our go.mod."""
    path: str
    version: str
    stamps: tuple[tuple[str, str], ...] = ()
    """Variables that the linker sets, `(import path and name, value)`: what the program answers to `--version`."""


@dataclass(frozen=True, slots=True)
class Program:
    """One executable: the name of the file and the package that it is built from."""

    name: str
    module: Module
    package: str


def _kubernetes_stamps() -> tuple[tuple[str, str], ...]:
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    values = (("gitVersion", KUBERNETES), ("gitMajor", major), ("gitMinor", minor), ("gitTreeState", "clean"))
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{package}.{name}", value) for package in packages for name, value in values)


KUBERNETES_MODULE: Final = Module("kubernetes", "k8s.io/kubernetes", KUBERNETES, _kubernetes_stamps())
ETCD_MODULE: Final = Module("etcd", "go.etcd.io/etcd/server/v3", "v3.6.5")
KWOK_MODULE: Final = Module("kwok", "sigs.k8s.io/kwok", "v0.8.0", (("sigs.k8s.io/kwok/pkg/consts.Version", "v0.8.0"),))
KIND_MODULE: Final = Module("kind", "sigs.k8s.io/kind", "v0.33.0")
COREDNS_MODULE: Final = Module("coredns", "github.com/coredns/coredns", "v1.14.7")
HELM_MODULE: Final = Module(
    "helm", "helm.sh/helm/v3", "v3.22.0", (("helm.sh/helm/v3/internal/version.version", "v3.22.0"),)
)
MODULES: Final = (KUBERNETES_MODULE, ETCD_MODULE, KWOK_MODULE, KIND_MODULE, COREDNS_MODULE, HELM_MODULE)
"""What a cluster is made of."""

KEDA_MODULE: Final = Module(
    "keda", "github.com/kedacore/keda/v2", "v2.20.2", (("github.com/kedacore/keda/v2/version.Version", "2.20.2"),)
)
"""What only some scenarios install; its programs have a folder of their own, so a new version rebuilds nothing else."""

PROGRAMS: Final = {
    program.name: program
    for program in (
        *(
            Program(name, KUBERNETES_MODULE, f"{KUBERNETES_MODULE.path}/cmd/{name}")
            for name in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubectl",
                "kubelet",
                "kube-proxy",
                "kubeadm",
            )
        ),
        Program("etcd", ETCD_MODULE, ETCD_MODULE.path),
        Program("kwok", KWOK_MODULE, f"{KWOK_MODULE.path}/cmd/kwok"),
        Program("kind", KIND_MODULE, KIND_MODULE.path),
        Program("coredns", COREDNS_MODULE, COREDNS_MODULE.path),
        Program("helm", HELM_MODULE, f"{HELM_MODULE.path}/cmd/helm"),
        Program("keda", KEDA_MODULE, f"{KEDA_MODULE.path}/cmd/operator"),
        Program("keda-adapter", KEDA_MODULE, f"{KEDA_MODULE.path}/cmd/adapter"),
    )
}

API_PROGRAMS: Final = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kwok")
"""What the `api` level needs, in the order in which it needs them."""

KIND_PROGRAMS: Final = ("kind", "kubectl")
"""What the `kind` level needs where a stock node image can be pulled."""

NODE_PROGRAMS: Final = ("kubelet", "kubeadm", "kubectl")
"""What is installed on a node whose image is built here."""

IMAGE_PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "coredns",
)
"""What runs in pods of the control plane where the node image is built here."""

KEDA_PROGRAMS: Final = ("keda", "keda-adapter")
"""What scales by events: KEDA's operator, and the server of external metrics."""


def cache_name() -> str:
    """Return the name of the cache folder: the Kubernetes version, readable, and a digest of all versions."""
    everything = repr((RECIPE, STAGING, [_identity(module) for module in MODULES]))
    return f"kubernetes-{KUBERNETES.removeprefix('v')}-{_digest(everything)}"


def module_cache(module: Module) -> str:
    """Return the name of the folder in which a module's programs are kept: that of the cluster, or one of its own."""
    if module in MODULES:
        return cache_name()
    return f"{module.name}-{module.version.removeprefix('v')}-{_digest(repr((RECIPE, _identity(module))))}"


def _identity(module: Module) -> tuple[object, ...]:
    return module.path, module.version, module.stamps


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
