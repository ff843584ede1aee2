"""What the restricted Pod Security profile asks of a pod, and no more rights than that."""

from typing import Final

from headrace_operator.objects.owner import Manifest

USER: Final = 65532
"""The images' user: no account of a node has this number."""


def pod_security() -> Manifest:
    """Return the security context of a pod."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        # else every start of a pod walks over all the weights to set their group
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(*, lock_memory: bool = False) -> Manifest:
    """Return the security context of a container.

    Args:
        lock_memory: adds IPC_LOCK, which RDMA needs where the runtime bounds locked memory; the restricted profile
            refuses it.
    """
    added = {"add": ["IPC_LOCK"]} if lock_memory else {}
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], **added},
    }
