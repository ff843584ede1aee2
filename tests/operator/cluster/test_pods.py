"""What a pod's report means for the worker in it."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from headrace_api.names import CONDITION_KV_TRANSFER, LABEL_DEPLOYMENT, LABEL_PAIRING, LABEL_REVISION, LABEL_ROLE
from headrace_operator.desired import DeploymentName
from headrace_operator.kubernetes import gates
from headrace_operator.kubernetes.agenda import Lane
from headrace_operator.kubernetes.objects import PodItem
from headrace_operator.kubernetes.pods import failure_of, has_ended, incarnation_of, phase_of, url_of, worker_of
from headrace_operator.kubernetes.relevance import lane_of
from headrace_operator.kubernetes.vouch import ended_prefill
from headrace_operator.observed import Endpoint, Observed, Pair, Phase


def pod(
    *,
    role: str = "prefill",
    conditions: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    phase: str = "Running",
    deleted: bool = False,
    ip: str = "10.0.0.7",
    extra: tuple[dict[str, Any], ...] = (),
) -> PodItem:
    """A pod as the API server tells of it, with fields that nobody reads."""
    labels = {LABEL_DEPLOYMENT: "chat", LABEL_ROLE: role, LABEL_REVISION: "r1", LABEL_PAIRING: "p1"}
    told = [{"type": kind, "status": status} for kind, status in (conditions or {}).items()]
    statuses = [] if container is None else [{"name": "worker", "image": "x", **container}]
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"chat-{role}",
            "namespace": "default",
            "uid": "u1",
            "resourceVersion": "7",
            "labels": labels,
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
        },
        "spec": {"containers": [{"name": "worker", "ports": [{"name": "http", "containerPort": 8001}]}]},
        "status": {"phase": phase, "podIP": ip, "conditions": [*told, *extra], "containerStatuses": statuses},
    }
    return msgspec.json.decode(json.dumps(body).encode(), type=PodItem)


RUNNING = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
ENDED = {"ready": False, "restartCount": 1, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
CRASHING = {
    "ready": False,
    "restartCount": 3,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
    "lastState": {"terminated": {"exitCode": 1, "message": "line one\nCUDA out of memory\n"}},
}


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {"ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("one", "phase"),
    [
        (pod(phase="Pending", ip=""), Phase.STARTING),
        (pod(container=waiting("ContainerCreating", "")), Phase.STARTING),
        (pod(container=RUNNING), Phase.STARTING),
        (pod(container=RUNNING, conditions={"ContainersReady": "True"}), Phase.READY),
        (pod(container=RUNNING, conditions={"ContainersReady": "True", "Ready": "False"}), Phase.READY),
        (pod(container=CRASHING), Phase.BACKOFF),
        (pod(container=RUNNING, conditions={"ContainersReady": "True"}, deleted=True), Phase.DRAINING),
        (pod(container=ENDED, deleted=True), Phase.DEAD),
        (pod(container=ENDED, phase="Failed"), Phase.DEAD),
        (pod(container=RUNNING, phase="Failed"), Phase.STARTING),
    ],
)
def test_the_phase_of_a_worker_is_read_from_its_pod(one: PodItem, phase: Phase) -> None:
    assert phase_of(one) is phase


@pytest.mark.parametrize(
    ("one", "ended"),
    [
        (pod(container=ENDED, deleted=True), True),
        (pod(container=ENDED, phase="Failed"), True),
        (pod(container=ENDED), False),
        (pod(container=RUNNING, deleted=True), False),
        (pod(container=RUNNING, phase="Failed", deleted=True), False),
        (pod(phase="Failed", deleted=True), False),
    ],
    ids=["deleted", "failed", "is started again", "still runs", "node lost", "nothing known"],
)
def test_only_the_kubelets_word_on_all_containers_proves_an_end(one: PodItem, *, ended: bool) -> None:
    assert has_ended(one) is ended
    assert (ended_prefill(one, None) == "u1") is ended
    assert (ended_prefill(None, one) == "u1") is ended


def test_ends_of_decode_workers_are_nobodys_concern() -> None:
    assert ended_prefill(pod(role="decode", container=ENDED, deleted=True), None) is None


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (pod(container=RUNNING), None),
        (pod(container=waiting("ContainerCreating", "")), None),
        (pod(container=waiting("ErrImagePull", "not found")), "the image cannot be pulled (ErrImagePull): not found"),
        (
            pod(container=waiting("CreateContainerConfigError", 'secret "hub" not found')),
            'the container cannot be made: secret "hub" not found',
        ),
        (pod(container=CRASHING), "its process ended 3 times, the last time with status 1: CUDA out of memory"),
        (
            pod(phase="Pending", extra=({"type": "PodScheduled", "status": "False", "message": "0/3 nodes fit"},)),
            "no node takes the pod: 0/3 nodes fit",
        ),
    ],
)
def test_what_keeps_a_worker_from_running_is_told_in_a_sentence(one: PodItem, text: str | None) -> None:
    failure = failure_of(one)
    assert (failure.message if failure is not None else None) == text


def test_settings_that_can_never_work_are_told_apart() -> None:
    crash = {**CRASHING, "lastState": {"terminated": {"exitCode": 2, "message": "no such model"}}}
    failure = failure_of(pod(container=crash))
    assert failure is not None
    assert failure.permanent


def test_a_restart_is_another_incarnation_and_the_port_is_that_of_the_container() -> None:
    assert incarnation_of(pod(container=RUNNING)) == "u1/0"
    assert incarnation_of(pod(container={**RUNNING, "restartCount": 2})) == "u1/2"
    assert url_of(pod()) == "http://10.0.0.7:8001"
    assert url_of(pod(ip="fd00::7")) == "http://[fd00::7]:8001"
    assert url_of(pod(ip="")) is None


def endpoint(incarnation: str = "u1/0") -> Endpoint:
    worker = worker_of(pod(container=RUNNING))
    assert worker is not None
    return Endpoint(worker.name, DeploymentName("chat"), "prefill", "http://10.0.0.7:8001", incarnation, "p1")


def gate(status: str, reason: str, message: str) -> PodItem:
    told = {"type": CONDITION_KV_TRANSFER, "status": status, "reason": reason, "message": message}
    return pod(container=RUNNING, conditions={"ContainersReady": "True"}, extra=(told,))


def seen(one: PodItem, *verified: str) -> Observed:
    worker = worker_of(one)
    assert worker is not None
    return Observed(workers=(worker,), verified=frozenset(verified))


def test_a_gate_is_written_when_it_must_change_and_only_then() -> None:
    bare = pod(container=RUNNING, conditions={"ContainersReady": "True"})
    opened = gate("True", gates.VERIFIED, "incarnation u1/0")

    assert [(one.open, one.reason) for one in gates.changes([bare], [endpoint()], seen(bare, "u1/0"))] == [
        (True, "HandoffVerified")
    ]
    assert gates.changes([opened], [endpoint()], seen(opened, "u1/0")) == []
    assert gates.changes([bare], [], seen(bare)) == []
    assert [one.open for one in gates.changes([opened], [], seen(opened))] == [False]
    assert gates.changes([gate("False", "NotVerified", "")], [], seen(opened)) == []


def test_before_the_first_request_a_trial_that_runs_is_waited_for() -> None:
    bare = pod(container=RUNNING, conditions={"ContainersReady": "True"})
    pairs = [Pair("u1/0", "u2/0")]

    assert gates.patient([endpoint()], pairs, seen(bare)) == ()
    assert gates.patient([endpoint()], [Pair("u3/0", "u2/0")], seen(bare)) == ()
    assert gates.patient([endpoint()], [], seen(bare)) == (endpoint(),)
    assert gates.patient([endpoint()], pairs, seen(bare, "u1/0")) == (endpoint(),)
    already = replace(seen(bare), routed=(endpoint(),))
    assert gates.patient([endpoint()], pairs, already) == (endpoint(),)


def test_a_gate_that_was_opened_for_an_earlier_start_proves_nothing_of_this_one() -> None:
    stale = gate("True", gates.VERIFIED, "incarnation u1/4")

    assert gates.proved(stale) == "u1/4"
    assert incarnation_of(stale) == "u1/0"
    assert gates.routed([stale], seen(stale).workers)[0].incarnation == "u1/4"


def test_a_gate_that_somebody_else_opened_proves_nothing() -> None:
    assert gates.proved(gate("True", "", "")) is None
    assert [one.reason for one in gates.changes([gate("True", "", "")], [endpoint()], seen(gate("True", "", "")))] == [
        "NoPartner"
    ]


@pytest.mark.parametrize(
    ("old", "new", "lane"),
    [
        (None, pod(phase="Pending", ip=""), Lane.IDLE),
        (None, pod(container=RUNNING, conditions={"ContainersReady": "True"}), Lane.URGENT),
        (pod(phase="Pending", ip=""), pod(phase="Running", ip=""), None),
        (pod(container=RUNNING), pod(container=RUNNING, conditions={"ContainersReady": "True"}), Lane.URGENT),
        (pod(container=RUNNING), pod(container=RUNNING, conditions={"Initialized": "True"}), None),
        (pod(container=RUNNING), pod(container=RUNNING, deleted=True), Lane.URGENT),
        (pod(container=RUNNING), None, Lane.URGENT),
    ],
)
def test_only_changes_that_a_decision_reads_ask_for_a_turn(
    old: PodItem | None, new: PodItem | None, lane: Lane | None
) -> None:
    assert lane_of(old, new) is lane
