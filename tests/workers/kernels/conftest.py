import pytest

from headrace_worker.fetch import cache_root
from headrace_worker.kernels.cpu import Kernels


@pytest.fixture(scope="session")
def kernels() -> Kernels:
    return Kernels(cache_root())
