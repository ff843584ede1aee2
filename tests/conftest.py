"""What tests of several parts share: a real API server that knows our resources."""

import itertools
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.home import user_home
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import API_PROGRAMS

# A shell that runs the tests in the background has them ignore SIGINT, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

_numbers = itertools.count(1)
CRDS = Path(__file__).parents[1] / "crds"


@pytest.fixture(scope="session")
def api_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiCluster]:
    """A control plane with simulated nodes and an audit log, whose CustomResourceDefinitions are established.

    Tests of one session share it: use a namespace of your own, and wait for nothing that others may change.
    """
    home = user_home(os.environ, Path.home())
    if not all((home.programs / name).exists() for name in API_PROGRAMS):
        pytest.skip("the control plane's programs are not built yet: make cluster-up CLUSTER=api")
    cluster = ApiCluster(replace(home, run=tmp_path_factory.mktemp("api") / "run"), print, nodes=4, audit=True)
    try:
        cluster.up()
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        kubectl.define(CRDS.glob("*.yaml"), timeout_s=30)
        yield cluster
    finally:
        cluster.down()


@pytest.fixture
def kubectl(api_cluster: ApiCluster) -> Kubectl:
    """The administrator's kubectl."""
    return Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of one's own on the shared API server."""
    name = f"test-{next(_numbers)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")
