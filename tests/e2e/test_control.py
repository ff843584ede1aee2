from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from e2e.cluster import control


@pytest.fixture
def plan() -> control.Plan:
    return control.Plan(Path("/run"), etcd_port=1, peer_port=2, api_port=3, token="secret", audit=False)


def test_everything_listens_on_the_loopback_address_only(plan: control.Plan) -> None:
    etcd, server = control.etcd_arguments(plan), control.apiserver_arguments(plan)

    assert "--listen-client-urls=http://127.0.0.1:1" in etcd
    assert "--listen-peer-urls=http://127.0.0.1:2" in etcd
    assert "--bind-address=127.0.0.1" in server
    assert "--secure-port=3" in server
    assert "--secure-port=0" in control.controllers_arguments(plan)
    assert "--secure-port=0" in control.scheduler_arguments(plan)


def test_the_api_server_asks_who_calls_and_what_he_may_do(plan: control.Plan) -> None:
    assert "--authorization-mode=RBAC" in control.apiserver_arguments(plan)
    assert control.tokens_text(plan) == "secret,admin,admin,system:masters\n"


def test_the_kubeconfig_reaches_the_server_with_the_token_of_the_administrator(plan: control.Plan) -> None:
    config = control.kubeconfig(plan)

    assert config["clusters"] == [
        {
            "name": "headrace",
            "cluster": {"server": "https://127.0.0.1:3", "certificate-authority": "/run/certs/apiserver.crt"},
        }
    ]
    assert config["users"] == [{"name": "admin", "user": {"token": "secret"}}]


def test_controllers_are_not_held_back_by_the_default_rate(plan: control.Plan) -> None:
    assert "--kube-api-qps=1000" in control.controllers_arguments(plan)
    assert "--kube-api-qps=1000" in control.scheduler_arguments(plan)


def test_an_audit_log_is_kept_only_where_it_was_asked_for(plan: control.Plan) -> None:
    audited = control.Plan(Path("/run"), etcd_port=1, peer_port=2, api_port=3, token="secret", audit=True)

    assert not [each for each in control.apiserver_arguments(plan) if "audit" in each]
    assert "--audit-log-path=/run/audit.log" in control.apiserver_arguments(audited)


def test_stages_become_one_file_of_documents() -> None:
    assert list(yaml.safe_load_all(control.stages_text(["a: 1\n", "\nb: 2"]))) == [{"a": 1}, {"b": 2}]


def test_simulated_pods_leave_their_readiness_gates_to_others() -> None:
    stage = "a:\n{{ range .spec.readinessGates }}\n- {{ .conditionType }}\n{{ end }}\n{{ range .b }}- c\n{{ end }}"
    assert control.stages_text([stage]) == "a:\n\n{{ range .b }}- c\n{{ end }}\n"


def test_a_simulated_node_offers_what_it_has() -> None:
    node = control.node("kwok-0", cpus=8, memory_gib=16, pods=5)

    room = {"cpu": "8", "memory": "16Gi", "pods": "5"}
    assert node["status"] == {"allocatable": room, "capacity": room}
