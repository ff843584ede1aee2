from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.cluster import processes
from e2e.cluster.api import ApiCluster
from e2e.cluster.errors import ClusterError
from e2e.cluster.home import Home, user_home
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.state import State, read_state, write_state
from e2e.cluster.versions import API_PROGRAMS

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = user_home(os.environ, Path.home())
BUILT = all((HOME.programs / name).exists() for name in API_PROGRAMS)
needs_programs = pytest.mark.skipif(not BUILT, reason="not built yet: make cluster-up CLUSTER=api")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return replace(HOME, run=tmp_path_factory.mktemp("cluster") / "run")


@pytest.fixture(scope="module")
def cluster(home: Home) -> Iterator[ApiCluster]:
    cluster = ApiCluster(home, print, nodes=2, audit=True)
    cluster.up()
    yield cluster
    cluster.down()


@pytest.fixture(scope="module")
def kubectl(cluster: ApiCluster) -> Kubectl:
    return Kubectl(cluster.kubectl, cluster.kubeconfig)


@needs_programs
@pytest.mark.processes
def test_pods_of_a_deployment_become_ready(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "web", "--image=none", "--replicas=3")

    kubectl("rollout", "status", "deployment/web", "--timeout=30s")

    assert kubectl("get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}") == "3"


@needs_programs
@pytest.mark.processes
def test_children_go_with_their_owner(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "brief", "--image=none", "--replicas=2")
    kubectl("rollout", "status", "deployment/brief", "--timeout=30s")

    kubectl("delete", "deployment", "brief", "--cascade=foreground", "--timeout=30s")

    assert kubectl("get", "pods", "-l", "app=brief", "-o", "name") == ""


@needs_programs
@pytest.mark.processes
def test_the_audit_log_names_who_did_what(cluster: ApiCluster, kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "seen", "--from-literal=a=b")

    entries = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    created = [
        (entry["user"]["username"], entry["verb"])
        for entry in entries
        if entry.get("objectRef", {}).get("name") == "seen" and entry["verb"] == "create"
    ]
    assert created == [("admin", "create")]


@needs_programs
@pytest.mark.processes
def test_a_cluster_that_lost_a_process_is_replaced_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    own = replace(home, run=tmp_path / "run")
    cluster = ApiCluster(own, print, nodes=1)
    cluster.up()
    first = read_state(own.state)
    assert first is not None
    processes.stop(first.daemons[0], grace_s=0)
    assert not cluster.status().running

    cluster.up()
    running, second = cluster.status().running, read_state(own.state)
    cluster.down()

    assert running
    assert second is not None
    assert not [each.name for each in (*first.daemons, *second.daemons) if processes.is_alive(each)]
    assert list(tmp_path.iterdir()) == []


def test_images_cannot_be_loaded_into_simulated_nodes(home: Home) -> None:
    with pytest.raises(ClusterError, match="some:image cannot be loaded: nodes of the provider 'api' are simulated"):
        ApiCluster(home, print).load("some:image")


def test_a_cluster_of_another_provider_is_not_touched(tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path / "run")
    write_state(home.state, State("kind", "kubeconfig"))

    with pytest.raises(ClusterError, match="make cluster-down CLUSTER=kind"):
        ApiCluster(home, print).up()

    assert read_state(home.state) == State("kind", "kubeconfig")
