"""A namespace of one's own on the shared API server, and KEDA's kind where its module is at hand."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.cluster.home import user_home
from e2e.cluster.kubectl import Kubectl
from e2e.cluster.versions import KEDA_MODULE

_KIND = "scaledobjects.keda.sh"


@pytest.fixture(scope="session")
def keda_module() -> Path:
    """Return the folder of KEDA's own definition of its kinds."""
    tail = Path(f"{KEDA_MODULE.path}@{KEDA_MODULE.version}") / "config" / "crd" / "bases"
    asked = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=False)
    caches = [Path(asked.stdout.strip())] if asked.returncode == 0 and asked.stdout.strip() else []
    caches += user_home(os.environ, Path.home()).programs.parent.glob("**/pkg/mod")
    for cache in caches:
        if (cache / tail).is_dir():
            return cache / tail
    pytest.skip(f"{KEDA_MODULE.path} {KEDA_MODULE.version} is not in the module cache: go mod download it")


@pytest.fixture
def keda(kubectl: Kubectl, keda_module: Path) -> Iterator[None]:
    """Have the API server know ScaledObjects for as long as a test runs; nobody acts on them."""
    kubectl.define([keda_module / "keda.sh_scaledobjects.yaml"], timeout_s=30)
    yield
    kubectl("delete", "crd", _KIND, "--timeout=30s")
