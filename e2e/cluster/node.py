"""The files of a kind node whose image is built here: what is changed in kind's own, what is added. Pure functions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from e2e.cluster.versions import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY: Final = "localhost/kube"
"""Where kubeadm looks for the control plane's images; they are on the node, so no registry is asked."""

PACKAGES: Final = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "iptables",
    "kmod",
    "procps",
    "containerd",
    "runc",
    "containernetworking-plugins",
    "conntrack",
    "ethtool",
    "socat",
    "util-linux",
    "mount",
    "jq",
    "ca-certificates",
)
"""Debian packages of a node: an init system, a container runtime and what kubelet and kube-proxy call."""

PROXY_PACKAGES: Final = ("iptables", "conntrack", "kmod")
"""Debian packages of kube-proxy's image; all other images hold one static program."""

UNWANTED_UNITS: Final = (
    "lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
    "lib/systemd/system/multi-user.target.wants/*",
    "etc/systemd/system/*.wants/*",
    "lib/systemd/system/local-fs.target.wants/*",
    "lib/systemd/system/sockets.target.wants/*udev*",
    "lib/systemd/system/sockets.target.wants/*initctl*",
    "lib/systemd/system/basic.target.wants/*",
)
"""Units that make no sense in a container, as kind's own base image drops them."""

ENABLED_UNITS: Final = ("kubelet.service", "containerd.service", "undo-mount-hacks.service")

LINKS: Final = {
    "usr/local/bin/containerd": "/usr/bin/containerd",
    "usr/local/bin/containerd-shim-runc-v2": "/usr/bin/containerd-shim-runc-v2",
    "usr/local/bin/ctr": "/usr/bin/ctr",
    "opt/cni/bin": "/usr/lib/cni",
    "etc/systemd/system/systemd-binfmt.service": "/dev/null",
    **{f"etc/systemd/system/multi-user.target.wants/{unit}": f"/etc/systemd/system/{unit}" for unit in ENABLED_UNITS},
}
"""Links of the node's root: Debian's programs where kind looks for them, units switched on or off."""

CHANGES: Final = (
    "ENV container=docker",
    'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]',
)
"""Settings of the node image: systemd must know that it runs in a container."""

JOURNAL: Final = "[Journal]\nReadKMsg=no\n"
"""Messages of the machine's kernel are not the node's."""

HOOK: Final = "/kind/bin/mount-product-files.sh"
POD_RANGE: Final = "10.244.0.0/16"
VOLUMES_FOLDER: Final = "/var/local/headrace"
SEED_FOLDER: Final = "/var/local/headrace-seed"
"""What is put into volumes, once; volumes hold links to these files."""

_REFUSED_LIMITS: Final = re.compile(r"^(?:OOMScoreAdjust|Limit\w+|TasksMax)=.*\n", re.MULTILINE)


def containerd_unit(text: str) -> str:
    """Return kind's unit of containerd without limits, which a node that lacks CAP_SYS_RESOURCE may not raise."""
    return _REFUSED_LIMITS.sub("", text)


def containerd_config(text: str, pause: str) -> str:
    """Return kind's configuration of containerd with our pause image and without negative OOM scores.

    Raises:
        ValueError: One of the two lines is not there: kind's files have changed, and so must this function.
    """
    for pattern, line in (
        (r"^(\s*)sandbox_image = .*$", rf'\1sandbox_image = "{pause}"'),
        (r"^(\s*)restrict_oom_score_adj = .*$", r"\1restrict_oom_score_adj = true"),
    ):
        text, count = re.subn(pattern, line, text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"kind's containerd configuration has {count} lines like {pattern!r}, expected one.")
    return text


def base_specification(printed: str) -> str:
    """Return containerd's base specification: what `ctr oci spec` prints, with kind's hook and without limits."""
    specification: dict[str, Any] = json.loads(printed)
    specification.get("process", {}).pop("rlimits", None)
    hooks = specification.setdefault("hooks", {}).setdefault("createContainer", [])
    hooks.append({"path": HOOK})
    return json.dumps(specification, indent=1)


def pod_network() -> str:
    """Return the network of pods: a bridge on the node, addresses out of the node's range, host ports mapped."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "headrace", "plugins": [bridge, ports]}, indent=1)


def storage_class() -> str:
    """Return the default storage class: volumes made by hand, bound when a pod needs them."""
    return json.dumps(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        }
    )


def volume(name: str, node: str, size_gib: int) -> dict[str, object]:
    """Return a volume of the class `standard` in a folder of the node; the folder must exist."""
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": f"{size_gib}Gi"},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "standard",
            "local": {"path": f"{VOLUMES_FOLDER}/{name}"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
        },
    }


def free_volumes(volumes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the volumes made by `volume` that no claim holds, given what kubectl lists."""
    return [
        each["metadata"]["name"]
        for each in volumes
        if each["spec"].get("local", {}).get("path", "").startswith(f"{VOLUMES_FOLDER}/")
        and each.get("status", {}).get("phase") != "Bound"
    ]


def refill_script(name: str) -> str:
    """Return a script for the node's shell that gives a volume the seed's files, and no others."""
    folder = f"{VOLUMES_FOLDER}/{name}"
    fill = f"mkdir -p {folder}; cp -al {SEED_FOLDER} {folder}/headrace; chmod 0777 {folder} {folder}/headrace"
    return f"rm -rf {folder}; {fill}"


def root_files(pause: str, containerd_toml: str, containerd_service: str, oci_specification: str) -> dict[str, str]:
    """Return the files that are written into a node's root after kind's own, by path."""
    return {
        "etc/containerd/config.toml": containerd_config(containerd_toml, pause),
        "etc/systemd/system/containerd.service": containerd_unit(containerd_service),
        "etc/containerd/cri-base.json": base_specification(oci_specification),
        "etc/cni/net.d/10-headrace.conflist": pod_network(),
        "kind/version": KUBERNETES,
        "kind/manifests/default-storage.yaml": storage_class(),
    }


def image_settings(program: str) -> tuple[str, ...]:
    """Return the settings of a control plane image that holds one program."""
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return path, f'ENTRYPOINT ["/usr/local/bin/{program}"]'


def image_names(listed: str) -> dict[str, str]:
    """Return the name of each image that kubeadm wants, by program, given what `kubeadm config images list` prints."""
    names = [line.strip() for line in listed.splitlines() if line.startswith(f"{REPOSITORY}/")]
    return {name.rpartition("/")[2].partition(":")[0]: name for name in names}
