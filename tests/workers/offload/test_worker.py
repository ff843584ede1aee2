"""Whole workers that offload: killed while they write, restarted, and beside a prefill worker."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.workers.parallel.rig import Worker, eventually, running, write_llama

from headrace_api import names

SIZES: dict[str, Any] = {
    "kv_memory_bytes": 1 << 20,
    "offload_memory_bytes": 4 << 20,
    "offload_disk_bytes": 64 << 20,
    "offload_when": "always",
}
"""Room for 21 blocks on the device and 85 in memory; a block has 48 KiB, and the prompts have 64 of them."""
PROMPTS = [[random.Random(seed).randrange(256) for _ in range(140)] for seed in range(8)]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": 6, "head_dim": 32}
    return write_llama(tmp_path_factory.mktemp("narrow") / "model", **shape)


@pytest.fixture(scope="module")
def wanted(narrow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[list[str]]]:
    """Answers of a worker that has room for everything."""
    with running(tmp_path_factory.mktemp("wanted") / "worker", narrow) as worker:
        yield [worker.ask(ids).tokens for ids in PROMPTS]


def blocks(worker: Worker, tier: str, event: str) -> float:
    lines = worker.client.get("/metrics").text.splitlines()
    marks = (f"{names.KV_OFFLOAD_BLOCKS}_total", f'tier="{tier}"', f'event="{event}"')
    return float(next(line for line in lines if all(mark in line for mark in marks)).rpartition(" ")[2])


def has_looked(worker: Worker) -> bool:
    """Return whether it knows of an earlier process's files; it shows no tier before its first report."""
    begin = f'{names.KV_OFFLOAD_BYTES}{{model="tiny",tier="disk"'
    lines = [line for line in worker.client.get("/metrics").text.splitlines() if line.startswith(begin)]
    return any(float(line.rpartition(" ")[2]) > 0 for line in lines)


def test_a_worker_killed_under_load_answers_the_same_from_its_disk_after_each_start(
    narrow: Path, wanted: list[list[str]], tmp_path: Path
) -> None:
    sizes = {**SIZES, "worker": "one", "offload_path": str(tmp_path / "kv")}
    for turn in range(3):
        worker = Worker(tmp_path / f"worker-{turn}", narrow, **sizes)
        try:
            worker.await_ready()
            _answer(worker, wanted, again=turn > 0)
            _kill_while_it_writes(worker)
        finally:
            worker.kill()


def _answer(worker: Worker, wanted: list[list[str]], *, again: bool) -> None:
    """Have it answer everything three times, out of files of an earlier start or into them."""
    if again:
        eventually(lambda: has_looked(worker), "it knows what lies on the disk")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda ids: worker.ask(ids).tokens, PROMPTS * 3))
    assert answers == wanted * 3
    assert blocks(worker, "disk", "corrupt") == 0
    if again:
        eventually(lambda: blocks(worker, "disk", "hits") > 0, "it has read")
    else:
        eventually(lambda: blocks(worker, "disk", "stored") >= 8, "prompts are on disk")


def _kill_while_it_writes(worker: Worker) -> None:
    stop = threading.Event()
    asking = threading.Thread(target=_ask_on, args=(worker, stop))
    asking.start()
    try:
        before = blocks(worker, "disk", "stored")
        eventually(lambda: blocks(worker, "disk", "stored") > before, "it writes")
    finally:
        stop.set()
        worker.kill()
        asking.join()


def _ask_on(worker: Worker, stop: threading.Event) -> None:
    """Ask ever new prompts until the worker has gone."""
    seed = 1000
    while not stop.is_set():
        seed += 1
        ids = [random.Random(seed).randrange(256) for _ in range(140)]
        try:
            worker.ask(ids, 2)
        except Exception:  # noqa: BLE001  # the worker is killed under it
            return


def test_a_worker_that_is_told_to_end_keeps_what_it_had(narrow: Path, wanted: list[list[str]], tmp_path: Path) -> None:
    sizes = {**SIZES, "kv_memory_bytes": 8 << 20, "offload_memory_bytes": 8 << 20}
    sizes |= {"worker": "one", "offload_path": str(tmp_path / "kv")}
    with running(tmp_path / "first", narrow, **sizes) as worker:
        assert [worker.ask(ids).tokens for ids in PROMPTS] == wanted
    with running(tmp_path / "second", narrow, **sizes) as worker:
        worker.await_ready()
        eventually(lambda: has_looked(worker), "it knows what lies on the disk")
        answers = [worker.ask(ids) for ids in PROMPTS]
        assert [answer.tokens for answer in answers] == wanted
        assert [answer.cached_tokens for answer in answers] == [128] * len(PROMPTS)


def test_prefill_and_decode_workers_that_offload_answer_as_one_that_does_not(
    narrow: Path, wanted: list[list[str]], tmp_path: Path
) -> None:
    parts: dict[str, Any] = {**SIZES, "secret": "s", "offload_path": str(tmp_path / "kv")}
    with (
        running(tmp_path / "prefill", narrow, role="prefill", worker="p", **parts) as prefill,
        running(tmp_path / "decode", narrow, role="decode", worker="d", **parts) as decode,
    ):
        prefill.await_ready()
        decode.await_ready()
        headers = {"x-headrace-prefill-workers": prefill.peer(), "x-headrace-disaggregate": "always"}
        for _ in range(3):
            with ThreadPoolExecutor(3) as pool:
                answers = list(pool.map(lambda ids: decode.ask(ids, headers=headers), PROMPTS))
            assert [answer.tokens for answer in answers] == wanted
            assert {answer.prefill for answer in answers} == {"p"}
        eventually(lambda: blocks(prefill, "memory", "hits") > 0, "the prefill worker has loaded")
        eventually(lambda: blocks(decode, "memory", "hits") > 0, "the decode worker has loaded")
