"""Models that all tests of several ranks share."""

from pathlib import Path

import pytest
from tests.workers.parallel.rig import write_llama


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 30 layers with 8 query and 2 key/value heads."""
    return write_llama(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mixture of six experts in 3 narrow layers, two for each token."""
    return write_llama(
        tmp_path_factory.mktemp("mixture") / "model",
        architectures=["MixtralForCausalLM"],
        hidden_size=128,
        intermediate_size=160,
        num_hidden_layers=3,
        head_dim=32,
        num_local_experts=6,
        num_experts_per_tok=2,
    )


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same heads in 3 narrow layers."""
    return write_llama(
        tmp_path_factory.mktemp("small") / "model",
        hidden_size=128,
        intermediate_size=224,
        num_hidden_layers=3,
        head_dim=32,
    )
