"""What the operator may do at the API server: one table of the calls that its code makes, with the reason of each.

`python -m headrace_operator.rbac` prints the roles and bindings. A test compares the table with the audit log of a
real API server: a call that is missing here fails, and so does one that is here and never made.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import yaml

from headrace_api.names import GROUP, LABEL_MANAGED_BY, LABEL_NAME, LABEL_PART_OF

NAME: Final = "headrace-operator"
NAMESPACE: Final = "headrace-system"
_RBAC: Final = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True, order=True)
class Call:
    """One kind of call; a subresource stands behind a slash, as in `pods/status`."""

    group: str
    resource: str
    verb: str


@dataclass(frozen=True, slots=True)
class Need:
    """Calls that are made for one reason."""

    why: str
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]

    @property
    def calls(self) -> frozenset[Call]:
        """The calls, one by one."""
        return frozenset(Call(self.group, *pair) for pair in product(self.resources, self.verbs))

    @property
    def rule(self) -> dict[str, list[str]]:
        """The calls, as a rule of a role."""
        return {"apiGroups": [self.group], "resources": list(self.resources), "verbs": list(self.verbs)}


_SEE: Final = ("list", "watch")
_HOLD: Final = ("get", "list", "watch", "create", "patch", "delete")
_VERBS: Final = """\
# get: whose an object is, after a conflict; list, watch: what others changed; create, patch: server-side apply;
# delete: what is not wanted any more
"""

NEEDS: Final = (
    Need("reads what users ask for", GROUP, ("llmdeployments", "llmrouters"), _SEE),
    Need(
        "reports conditions, numbers and the endpoint",
        GROUP,
        ("llmdeployments/status", "llmrouters/status", "llmpools/status"),
        ("patch",),
    ),
    Need("pools that users and autoscalers turn to", GROUP, ("llmpools",), _HOLD),
    Need(
        "writes a pool's number where a user has set or changed it, and where it scales by itself",
        GROUP,
        ("llmpools/scale",),
        ("patch",),
    ),
    Need("has KEDA scale pools, where KEDA is installed", "keda.sh", ("scaledobjects",), _HOLD),
    Need("workers and routers", "apps", ("deployments", "statefulsets"), _HOLD),
    Need(
        "settings, endpoints, accounts and the volume for weights",
        "",
        ("configmaps", "persistentvolumeclaims", "serviceaccounts", "services"),
        _HOLD,
    ),
    Need("drains of nodes take one worker at a time", "policy", ("poddisruptionbudgets",), _HOLD),
    Need(
        "who may connect to workers; as long as the deployment is there, so is this",
        "networking.k8s.io",
        ("networkpolicies",),
        ("get", "list", "watch", "create", "patch"),
    ),
    Need("lets routers see pods", _RBAC, ("roles", "rolebindings"), _HOLD),
    Need(
        "fetches weights; a Job is never changed, another model has another one",
        "batch",
        ("jobs",),
        ("get", "list", "watch", "create", "delete"),
    ),
    Need("the secret that workers share is made once, and never read", "", ("secrets",), ("create",)),
    Need(
        "follows the workers, and holds the right that it grants to routers, as the API server demands",
        "",
        ("pods",),
        ("get", "list", "watch"),
    ),
    Need(
        "opens and closes the readiness gate of workers, and marks those that go first",
        "",
        ("pods/status",),
        ("patch",),
    ),
    Need("tells users what changed", "events.k8s.io", ("events",), ("create",)),
)
"""In the namespace of the resources; in all of them in cluster mode."""

CLUSTER_NEEDS: Final = (
    Need("sees whether a node offers GPUs, for accelerator auto", "", ("nodes",), _SEE),
    Need(
        "kopf finds out when its resources are installed", "apiextensions.k8s.io", ("customresourcedefinitions",), _SEE
    ),
)
"""Of the cluster as a whole; in namespaced mode it does without."""

LEADER_NEEDS: Final = (
    Need("one operator acts at a time", "coordination.k8s.io", ("leases",), ("get", "create", "patch")),
    Need(
        "leads KEDA to the operator that acts, where KEDA is installed",
        "discovery.k8s.io",
        ("endpointslices",),
        ("create", "patch"),
    ),
)
"""In the operator's own namespace."""


def _calls(needs: Iterable[Need]) -> frozenset[Call]:
    return frozenset(call for need in needs for call in need.calls)


CALLS: Final = _calls((*NEEDS, *CLUSTER_NEEDS, *LEADER_NEEDS))
"""All calls in cluster mode."""
NAMESPACED_CALLS: Final = _calls((*NEEDS, *LEADER_NEEDS))
"""All calls in namespaced mode."""
UNSEEN: Final = frozenset(
    {
        call
        for call in _calls((*NEEDS, *LEADER_NEEDS))
        if call.verb == "create"
        and Call(call.group, call.resource, "patch") in CALLS
        and call.resource != "leases"  # made by a POST
    }
    | {Call("", "pods", "get")}
)
"""Rights that the API server asks for and the audit log does not show: an apply that makes its object is a patch there,
and whoever grants a right must hold it."""
KEDA: Final = frozenset(call for call in CALLS if call.group in {"keda.sh", "discovery.k8s.io"})
"""Calls that are made where KEDA is installed, and nowhere else."""


def manifests(*, namespaced: bool, namespace: str, account: str, watched: str | None = None) -> list[dict[str, Any]]:
    """Return the roles and bindings of the operator.

    Args:
        namespaced: it serves one namespace, and is given no right outside of it.
        namespace: where the operator runs.
        account: its ServiceAccount there.
        watched: in namespaced mode, the namespace that it serves; default: its own.
    """
    subject = {"kind": "ServiceAccount", "name": account, "namespace": namespace}
    if namespaced:
        operator = _granted("Role", NAME, NEEDS, subject, watched or namespace)
    else:
        operator = _granted("ClusterRole", NAME, (*NEEDS, *CLUSTER_NEEDS), subject, None)
    return [*operator, *_granted("Role", f"{NAME}-leader", LEADER_NEEDS, subject, namespace)]


def _granted(
    kind: str, name: str, needs: Sequence[Need], subject: dict[str, str], namespace: str | None
) -> list[dict[str, Any]]:
    """Return a role and the binding that gives it to the operator's account."""
    labels = {LABEL_NAME: NAME, LABEL_MANAGED_BY: "headrace", LABEL_PART_OF: "headrace"}
    metadata = {"name": name, **({} if namespace is None else {"namespace": namespace}), "labels": labels}
    version = f"{_RBAC}/v1"
    return [
        {"apiVersion": version, "kind": kind, "metadata": metadata, "rules": [need.rule for need in needs]},
        {
            "apiVersion": version,
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]


def spell(documents: Sequence[dict[str, Any]]) -> str:
    """Return the documents as YAML, with its reason before each rule."""
    return _VERBS + "---\n".join(_spell(document) for document in documents)


def _spell(document: dict[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "rules"}
    text = _yaml(rest)
    if "rules" not in document:
        return text
    reasons = {repr(need.rule): need.why for need in (*NEEDS, *CLUSTER_NEEDS, *LEADER_NEEDS)}
    rules = (f"# {reasons[repr(rule)]}\n{_yaml([rule])}" for rule in document["rules"])
    return f"{text}rules:\n{''.join(rules)}"


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=1000))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the roles and bindings."""
    parser = argparse.ArgumentParser(prog="python -m headrace_operator.rbac", description=main.__doc__)
    parser.add_argument("--namespaced", action="store_true", help="for an operator that serves one namespace")
    parser.add_argument("--namespace", default=NAMESPACE, help="where the operator runs (default: %(default)s)")
    parser.add_argument("--watch", help="with --namespaced: the namespace that it serves (default: its own)")
    parser.add_argument("--account", default=NAME, help="the operator's ServiceAccount (default: %(default)s)")
    given = parser.parse_args(arguments)
    documents = manifests(
        namespaced=given.namespaced, namespace=given.namespace, account=given.account, watched=given.watch
    )
    sys.stdout.write(spell(documents))
    return 0


if __name__ == "__main__":
    sys.exit(main())
