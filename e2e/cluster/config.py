"""The text of kind's cluster configuration: pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from e2e.cluster.node import POD_RANGE, REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

_OLD_CGROUPS = {"kind": "KubeletConfiguration", "failCgroupV1": False}
"""Kubelet refuses machines with cgroup v1 by default; here it must not."""


def cluster_config(*, stock: bool, mounts: Mapping[str, str]) -> str:
    """Return the configuration of a cluster with one node, in JSON, which is YAML.

    Args:
        stock: The node image is kind's own, with its own network and images.
        mounts: Folders of this machine, by the path under which the node sees them.
    """
    node: dict[str, object] = {"role": "control-plane"}
    if mounts:
        node["extraMounts"] = [{"hostPath": source, "containerPath": target} for target, source in mounts.items()]
    networking: dict[str, object] = {"ipFamily": "ipv4", "apiServerAddress": "127.0.0.1", "podSubnet": POD_RANGE}
    patches: list[dict[str, object]] = [dict(_OLD_CGROUPS)]
    if not stock:
        networking["disableDefaultCNI"] = True
        patches.append({"kind": "ClusterConfiguration", "imageRepository": REPOSITORY})
    return json.dumps(
        {
            "apiVersion": "kind.x-k8s.io/v1alpha4",
            "kind": "Cluster",
            "networking": networking,
            "nodes": [node],
            "kubeadmConfigPatches": [json.dumps(patch) for patch in patches],
        },
        indent=1,
    )


def stock_image(source: str) -> str | None:
    """Return the node image that a version of kind uses by default, given the source file that names it."""
    for line in source.splitlines():
        if line.startswith("const Image = "):
            return line.partition("=")[2].strip().strip('"')
    return None
