"""What tests of the chart share: helm, where it is built."""

import pytest
from tests.charts.chart import PROGRAM, Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    if not PROGRAM.exists():
        pytest.skip("helm is not built yet: .venv/bin/python -m e2e.cluster build helm")
    return Helm(tmp_path_factory.mktemp("helm"))
