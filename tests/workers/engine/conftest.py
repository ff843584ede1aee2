"""Cores on a tiny model."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.workers.engine.rig import Front, running_core
from tests.workers.models.tiny import load_decoder, make_llama, native_backend

from headrace_worker.models.decoder import Decoder

StartCore = Callable[..., Front]


@pytest.fixture(scope="session")
def model() -> Any:
    return make_llama(tie_word_embeddings=True)


@pytest.fixture(scope="session")
def decoder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Decoder:
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return load_decoder(folder, native_backend())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute on one thread: tiny products lose time to a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start_core(decoder: Decoder, tmp_path: Path) -> Iterator[StartCore]:
    """Start cores with the arguments of `running_core`; they end with the test."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(**sizes: Any) -> Front:
            nonlocal count
            count += 1
            return stack.enter_context(running_core(decoder, f"ipc://{tmp_path}/core-{count}", **sizes))

        yield start


@pytest.fixture
def front(start_core: StartCore) -> Front:
    return start_core()
