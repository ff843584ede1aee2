"""Which pods are workers that may be chosen."""

import copy
from typing import Any

import msgspec
import pytest

from headrace_router.discovery.pods import Pod, worker_of
from headrace_router.discovery.worker import Worker

POD: dict[str, Any] = {
    "metadata": {
        "name": "chat-decode-1-x",
        "uid": "u-1",
        "resourceVersion": "7",
        "labels": {
            "serving.headrace.dev/deployment": "chat",
            "serving.headrace.dev/role": "decode",
            "serving.headrace.dev/pairing": "abc",
        },
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
    },
    "spec": {
        "containers": [
            {"name": "sidecar", "ports": [{"containerPort": 9}]},
            {"name": "worker", "ports": [{"containerPort": 9}, {"containerPort": 8000, "name": "http"}]},
        ]
    },
    "status": {
        "podIP": "10.1.2.3",
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
        "containerStatuses": [{"name": "sidecar", "restartCount": 5}, {"name": "worker", "restartCount": 2}],
    },
}  # fmt: skip


def worker(change: Any = None) -> Worker | None:
    """Return the worker in the pod after a change to it."""
    pod = copy.deepcopy(POD)
    if change is not None:
        change(pod)
    return worker_of(msgspec.json.decode(msgspec.json.encode(pod), type=Pod))


def test_a_ready_pod_is_a_worker_at_its_port_named_http() -> None:
    found = worker()
    assert found is not None
    assert (found.url, found.name, found.role, found.deployment) == (
        "http://10.1.2.3:8000",
        "chat-decode-1-x",
        "decode",
        "chat",
    )
    assert (found.host, found.port, found.authority, found.pairing) == ("10.1.2.3", 8000, b"10.1.2.3:8000", "abc")


def test_an_address_of_ipv6_is_written_in_brackets() -> None:
    found = worker(lambda pod: pod["status"].update(podIP="fd00::7"))
    assert found is not None
    assert (found.url, found.host) == ("http://[fd00::7]:8000", "fd00::7")


@pytest.mark.parametrize(
    "change",
    [
        lambda pod: pod["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z"),
        lambda pod: pod["status"].update(podIP=""),
        lambda pod: pod["status"].pop("podIP"),
        lambda pod: pod["status"].update(conditions=[{"type": "Ready", "status": "False"}]),
        lambda pod: pod["status"].update(conditions=[{"type": "ContainersReady", "status": "True"}]),
        lambda pod: pod.pop("status"),
        lambda pod: pod["spec"]["containers"].pop(),
        lambda pod: pod["metadata"]["labels"].pop("serving.headrace.dev/role"),
        lambda pod: pod["metadata"]["labels"].update({"serving.headrace.dev/role": "cook"}),
    ],
)
def test_a_pod_that_must_have_no_request_is_none(change: Any) -> None:
    assert worker(change) is None


def test_a_container_that_has_restarted_is_another_worker() -> None:
    def restart(container: int) -> Any:
        return lambda pod: pod["status"]["containerStatuses"][container].update(restartCount=9)

    assert worker(restart(1)) != worker()
    assert worker(restart(0)) == worker()
    assert worker(lambda pod: pod["metadata"].update(uid="u-2")) != worker()
    assert worker(lambda pod: pod["metadata"].update(resourceVersion="8")) == worker()
