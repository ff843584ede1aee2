"""The real helm, asked to render the chart of this tree."""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from e2e.cluster.command import capture
from e2e.cluster.home import user_home

Object = dict[str, Any]

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "charts" / "headrace"
PROGRAM: Final = user_home(os.environ, Path.home()).programs / "helm"
NAMESPACE: Final = "release"
KUBERNETES: Final = "1.34.0"
_TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Helm:
    """helm with folders of its own, and a cluster where one is named."""

    folder: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, values: Object | None = None) -> str:
        """Run one command and return what it printed."""
        home = {f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        cluster = [] if self.kubeconfig is None else [f"--kubeconfig={self.kubeconfig}"]
        with tempfile.NamedTemporaryFile("w", suffix=".json", dir=self.folder) as file:
            file.write(json.dumps(values or {}))
            file.flush()
            given = [] if values is None else ["-f", file.name]
            command = [str(PROGRAM), *cluster, *arguments, *given]
            return capture(command, timeout_s=_TIMEOUT_S, environment=home)

    def template(
        self, values: Object | None = None, *flags: str, namespace: str = NAMESPACE, chart: Path = CHART
    ) -> list[Object]:
        """Return the objects of a release `headrace`, tests and hooks among them."""
        version = f"--kube-version={KUBERNETES}"
        text = self("template", "headrace", str(chart), "-n", namespace, version, *flags, values=values or {})
        return [one for one in yaml.safe_load_all(text) if one is not None]


def pick(objects: list[Object], kind: str, name: str, namespace: str | None = None) -> Object:
    """Return the one object of this kind and name."""
    (found,) = (
        one
        for one in objects
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
        and namespace in {None, one["metadata"].get("namespace")}
    )
    return found


def names(objects: list[Object], kind: str) -> set[str]:
    """Return the names of all objects of a kind."""
    return {one["metadata"]["name"] for one in objects if one["kind"] == kind}


def pods(objects: list[Object]) -> dict[str, Object]:
    """Return the pods that the objects are or make: labels and spec, by kind and name."""
    templates = {"Deployment", "Job"}
    return {
        f"{one['kind']}/{one['metadata']['name']}": one["spec"]["template"] if one["kind"] in templates else one
        for one in objects
        if one["kind"] in {*templates, "Pod"}
    }
