"""Brings KEDA into a cluster, and takes it away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from e2e.cluster.golang import ensure_programs, module_folder
from e2e.cluster.image import import_program
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import KEDA_MODULE, KEDA_PROGRAMS, module_cache
from e2e.keda.certificate import make_certificate
from e2e.keda.objects import GROUP, METRICS, NAMESPACE, OPERATOR, names, objects

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from e2e.cluster.command import Progress
    from e2e.cluster.engine import Engine
    from e2e.cluster.home import Home
    from e2e.cluster.kind import KindCluster

_DEFINED_TIMEOUT_S: Final = 60.0
_READY_TIMEOUT_S: Final = 180


def install_keda(home: Home, cluster: KindCluster, progress: Progress) -> None:
    """Install KEDA and wait until the API server gets external metrics from it; its first build takes ten minutes."""
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
    images = ensure_keda_images(home, cluster.engine(), progress)
    cluster.load(*images)
    kubectl.define(definitions(), timeout_s=_DEFINED_TIMEOUT_S)
    kubectl.apply(objects(*images, make_certificate(names())))
    wait = ("wait", f"--timeout={_READY_TIMEOUT_S}s", "--namespace", NAMESPACE)
    deployments = [f"deployment/{name}" for name in (OPERATOR, METRICS)]
    kubectl(*wait, "--for=condition=Available", *deployments, timeout_s=_READY_TIMEOUT_S + 10)
    registration = ("--for=condition=Available", f"apiservice/v1beta1.{GROUP}")
    kubectl(*wait, *registration, timeout_s=_READY_TIMEOUT_S + 10)
    progress("KEDA is ready")


def remove_keda(cluster: KindCluster) -> None:
    """Take away what `install_keda` made; ScaledObjects must be gone, for only KEDA can end them."""
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
    kubectl("delete", "apiservice", f"v1beta1.{GROUP}", "--ignore-not-found")
    files = [word for path in definitions() for word in ("-f", str(path))]
    kubectl("delete", "--ignore-not-found", "--timeout=60s", *files, timeout_s=70)
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", timeout_s=130)
    made = [one for one in objects("", "", make_certificate(names())) if one["kind"].startswith(("Cluster", "Role"))]
    for one in made:
        namespace = one["metadata"].get("namespace", "default")
        kubectl("--namespace", namespace, "delete", one["kind"], one["metadata"]["name"], "--ignore-not-found")


def ensure_keda_images(home: Home, engine: Engine, progress: Progress) -> tuple[str, str]:
    """Return the images of KEDA's two programs, built first where the engine lacks them."""
    tag = module_cache(KEDA_MODULE).removeprefix(f"{KEDA_MODULE.name}-")
    images = {program: f"localhost/{program}:{tag}" for program in KEDA_PROGRAMS}
    lacking = [program for program, image in images.items() if not engine.has_image(image)]
    for program, binary in ensure_programs(home, lacking, progress).items():
        import_program(home, engine, binary, name=images[program])
    operator, adapter = (images[program] for program in KEDA_PROGRAMS)
    return operator, adapter


def definitions() -> Sequence[Path]:
    """Return the files of KEDA's custom resources, as its module has them."""
    return sorted((module_folder(KEDA_MODULE) / "config" / "crd" / "bases").glob("*.yaml"))
