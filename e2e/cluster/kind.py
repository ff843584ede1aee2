"""The provider `kind`: a real Kubernetes in a container, with a real kubelet, real pods and a real network."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from e2e.cluster import dockerd, network, node, store
from e2e.cluster.base import Status
from e2e.cluster.command import Progress, capture
from e2e.cluster.config import cluster_config, stock_image
from e2e.cluster.deadline import wait_until
from e2e.cluster.engine import Engine, machine_engine
from e2e.cluster.errors import ClusterError, CommandError
from e2e.cluster.golang import ensure_programs, module_folder
from e2e.cluster.image import ensure_node_image, node_image
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.owned import OwnedCluster
from e2e.cluster.state import NetworkBefore, State, read_state, write_state
from e2e.cluster.versions import KIND_MODULE, KIND_PROGRAMS
from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from e2e.cluster.home import Home

NAME: Final = "headrace-test"
NODE: Final = f"{NAME}-control-plane"

_NETWORK: Final = "kind"
_DAEMON: Final = "dockerd"
_CREATE_TIMEOUT_S: Final = 900.0
_READY_TIMEOUT_S: Final = 180.0
_PULL_TIMEOUT_S: Final = 900.0
_COPY_TIMEOUT_S: Final = 600.0
_VOLUMES: Final = 8
_VOLUME_GIB: Final = 200


class KindCluster(OwnedCluster):
    """One node of kind, on the machine's container engine or on one that we start and end.

    Args:
        home: Where parts and data lie.
        progress: Takes lines for the person who waits.
        mounts: Folders of this machine that the node sees, by their path in the node.
        images: Builds images with the engine and returns their names, for the node to have from its start where the
            engine is our own. Left out: those of the last time.
    """

    provider = "kind"

    def __init__(
        self,
        home: Home,
        progress: Progress,
        *,
        mounts: Mapping[str, str] | None = None,
        images: Callable[[Engine], Sequence[str]] | None = None,
    ) -> None:
        super().__init__(home, progress)
        self._mounts = mounts or {}
        self._images = images

    def status(self) -> Status:
        state = read_state(self._home.state)
        if state is None:
            return Status("kind", running=False, kubeconfig=self.kubeconfig)
        lines = [f"container engine: {state.engine or 'the default of docker'}", *self._daemon_lines(state)]
        answers = self.kubeconfig.exists() and Kubectl(self.kubectl, self.kubeconfig).answers()
        lines.append(f"{NODE}: the API server {'is ready' if answers else 'does not answer'}")
        return Status("kind", state.ready and answers, self.kubeconfig, tuple(lines))

    def load(self, *images: str) -> None:
        engine = self.engine()
        for image in images:
            if not engine.has_image(image):
                raise ClusterError(f"The container engine has no image {image!r}; build it first.")
        lacking = self.lacking(images)
        if lacking:
            self._progress(f"bringing {' and '.join(lacking)} to the node")
            self._kind(engine, "load", "docker-image", *lacking, "--name", NAME, timeout_s=_CREATE_TIMEOUT_S)

    def lacking(self, images: Sequence[str]) -> list[str]:
        """Return those of the images that the node does not have."""
        on_node = self.node("ctr", "--namespace=k8s.io", "images", "list", "--quiet").split()
        return [image for image in images if image not in on_node]

    def import_archive(self, file: Path) -> None:
        """Give the node's containerd an archive of images; layers that it has may be left out."""
        self.engine().docker("cp", str(file), f"{NODE}:/image.tar", timeout_s=_COPY_TIMEOUT_S)
        self.node("ctr", "--namespace=k8s.io", "images", "import", "/image.tar")
        self.node("rm", "/image.tar")

    def node(self, *command: str, timeout_s: float = 60.0) -> str:
        """Run a command on the node and return what it printed."""
        return self.engine().docker("exec", NODE, *command, timeout_s=timeout_s)

    def refill_volumes(self, source: Path, parts: Sequence[str]) -> None:
        """Make the volumes that no claim holds anew, each with a copy of some folders of `source` on this machine.

        Nothing is done where the node image is kind's own: there volumes are made, empty, when a claim asks.
        """
        kubectl = Kubectl(self.kubectl, self.kubeconfig)
        free = node.free_volumes(json.loads(kubectl("get", "persistentvolumes", "-o", "json"))["items"])
        if not free:
            return
        kubectl("delete", "persistentvolume", *free)
        self.node("rm", "-rf", node.SEED_FOLDER)
        self.node("mkdir", "-p", node.SEED_FOLDER)
        for part in parts:
            self.engine().docker(
                "cp", str(source / part), f"{NODE}:{node.SEED_FOLDER}/{part}", timeout_s=_COPY_TIMEOUT_S
            )
        for name in free:
            self.node("sh", "-ec", node.refill_script(name), timeout_s=_COPY_TIMEOUT_S)
        kubectl.apply([node.volume(name, NODE, _VOLUME_GIB) for name in free])

    def engine(self) -> Engine:
        """Return the container engine that carries the running cluster, for building the images to load."""
        return Engine(self._state().engine)

    def _start(self) -> None:
        engine = self._ensure_engine()
        self._create(engine)

    def _end(self, state: State) -> None:
        engine = Engine(state.engine)
        if state.network is None:
            self._delete_cluster(engine)
            return
        try:
            if not engine.answers():
                self._progress("an engine of ours ended without clearing up; starting it once more to do so")
                for daemon in state.daemons:
                    dockerd.stop(daemon)
                self._start_engine(replace(state, ready=False))
            engine.remove_containers()
            if _NETWORK in engine.docker("network", "ls", "--format", "{{.Name}}").split():
                engine.docker("network", "rm", _NETWORK)
            store.clear(engine, node_image())
        except ClusterError as error:
            self._progress(f"the engine cannot clear up, so it is only ended: {error}")
        finally:
            self._stop_engine(state.network)

    def _ensure_engine(self) -> Engine:
        engine = machine_engine(os.environ)
        if engine is None:
            self._progress("no container engine answers on this machine; starting one of our own")
            dockerd.prepare(self._home, self._progress)
            engine = machine_engine(os.environ)  # what was installed may have been started with it
        if engine is None:
            return self._start_engine(State("kind", str(self.kubeconfig), network=dockerd.network_before()))
        write_state(self._home.state, State("kind", str(self.kubeconfig), engine=engine.address))
        return engine

    def _start_engine(self, state: State) -> Engine:
        engine = dockerd.own_engine(self._home)
        state = replace(state, engine=engine.address, daemons=())
        write_state(self._home.state, state)
        daemon = dockerd.start(self._home, _DAEMON)
        write_state(self._home.state, replace(state, daemons=(daemon,)))
        dockerd.wait(engine, daemon)
        engine.remove_containers()  # of a cluster whose state file was lost
        return engine

    def _create(self, engine: Engine) -> None:
        ensure_programs(self._home, KIND_PROGRAMS, self._progress)
        image, stock = self._node_image(engine)
        self._delete_cluster(engine)
        mounts = {**self._mounts, **self._image_store(engine, image)}
        self._progress(f"creating the cluster from {image}")
        file = self._home.run / "kind.json"
        file.write_text(cluster_config(stock=stock, mounts=mounts))
        options = ("--name", NAME, "--image", image, "--config", str(file), "--kubeconfig", str(self.kubeconfig))
        self._kind(engine, "create", "cluster", *options, "--wait", "180s", timeout_s=_CREATE_TIMEOUT_S)
        self._record(bridge=network.bridge_name(engine.docker("network", "inspect", "--format", "{{.Id}}", _NETWORK)))
        kubectl = Kubectl(self.kubectl, self.kubeconfig)
        if not stock:
            self._make_volumes(kubectl)
        dns = ("-n", "kube-system", "rollout", "status", "deployment/coredns", f"--timeout={_READY_TIMEOUT_S:.0f}s")
        kubectl(*dns, timeout_s=_READY_TIMEOUT_S + 10)
        wait_until(lambda: _has_account(kubectl), timeout_s=_READY_TIMEOUT_S, what="No default service account came")

    def _image_store(self, engine: Engine, image: str) -> dict[str, str]:
        """Return the mount that gives the node its images; none where the engine is not ours and its disk elsewhere."""
        if self._state().network is None:
            return {}
        images, log = self._images and self._images(engine), self._home.build_logs / "store.log"
        folder = store.node_store(engine, image, images, log=log, progress=self._progress)
        return {} if folder is None else {store.CONTAINERD_ROOT: folder}

    def _node_image(self, engine: Engine) -> tuple[str, bool]:
        """Return the node image to use, and whether it is kind's own."""
        source = module_folder(KIND_MODULE) / "pkg/apis/config/defaults/image.go"
        stock = stock_image(source.read_text())
        if engine.has_image(node_image()):
            return node_image(), False
        if stock is not None and engine.has_image(stock):
            return stock, True
        if stock is not None:
            try:
                self._progress(f"asking a registry for kind's node image {stock.partition('@')[0]}")
                engine.docker("pull", "--quiet", stock, timeout_s=_PULL_TIMEOUT_S)
            except CommandError:
                self._progress("it cannot be pulled here")
            else:
                return stock, True
        return ensure_node_image(self._home, engine, self._progress), False

    def _make_volumes(self, kubectl: Kubectl) -> None:
        names = [f"volume-{number}" for number in range(_VOLUMES)]
        folders = [f"{node.VOLUMES_FOLDER}/{name}" for name in names]
        self.node("mkdir", "-p", "-m", "0777", *folders)
        kubectl.apply([node.volume(name, NODE, _VOLUME_GIB) for name in names])

    def _delete_cluster(self, engine: Engine) -> None:
        if (self._home.programs / "kind").exists():
            self._kind(engine, "delete", "cluster", "--name", NAME, timeout_s=120)

    def _stop_engine(self, before: NetworkBefore) -> None:
        state = self._state()
        for daemon in state.daemons:
            dockerd.stop(daemon)
        dockerd.end_strays(self._home, state.bridge)
        dockerd.restore_network(before)

    def _kind(self, engine: Engine, *arguments: str, timeout_s: float) -> str:
        environment = {**engine.environment, "KIND_EXPERIMENTAL_PROVIDER": "docker", "KUBECONFIG": str(self.kubeconfig)}
        return capture([str(self._home.programs / "kind"), *arguments], timeout_s=timeout_s, environment=environment)


def _has_account(kubectl: Kubectl) -> bool:
    return kubectl("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name").strip() != ""
