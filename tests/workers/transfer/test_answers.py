"""Whole workers with a fault at an exact moment of a hand-off: the answer is the known one, and no block leaks."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.soak.watch import read
from tests.workers.parallel import rig
from tests.workers.parallel.rig import Worker, eventually, running, write_llama

from headrace_api import names

pytestmark = [pytest.mark.processes, pytest.mark.skipif(os.name != "posix", reason="signals")]
LAYERS = 3
SILENCE_S = 4.0
TAMPER = str(Path(__file__).with_name("tamper"))
PROMPTS = [[(11 * at + start) % 256 for at in range(size)] for start, size in ((7, 100), (50, 70), (90, 60), (4, 150))]
FRESH = [[(13 * at + 17 * layer + 1) % 256 for at in range(90)] for layer in range(LAYERS)]
"""For one layer each: no block of them is cached."""
Start = Callable[..., Worker]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": LAYERS, "head_dim": 32}
    return write_llama(tmp_path_factory.mktemp("model") / "model", **sizes)


@pytest.fixture(scope="module")
def wanted(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What one undisturbed worker answers."""
    with running(tmp_path_factory.mktemp("whole") / "worker", model) as worker:
        return [worker.ask(prompt).tokens for prompt in [*PROMPTS, *FRESH]]


@pytest.fixture(scope="module")
def flag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arms the fault of a worker once it exists."""
    return tmp_path_factory.mktemp("flag") / "armed"


@pytest.fixture(scope="module")
def start(model: Path, flag: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start workers, some with a fault; all are killed at the end."""
    with ExitStack() as stack:

        def start(name: str, **fault: int) -> Worker:
            role = name.partition("-")[0]
            settings = {"role": role, "worker": name, "silence_s": SILENCE_S if role == "decode" else 30.0}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rig, "PACKAGES", [TAMPER, *rig.PACKAGES])
                if fault:
                    patch.setenv("HEADRACE_TAMPER", json.dumps({"flag": str(flag), **fault}))
                worker = Worker(tmp_path_factory.mktemp(name) / "worker", model, **settings)
            stack.callback(worker.kill)
            worker.await_ready()
            return worker

        yield start


@pytest.fixture(scope="module")
def spare(start: Start) -> Worker:
    """A prefill worker without a fault."""
    return start("prefill-9")


@pytest.fixture(scope="module")
def decode(start: Start) -> Worker:
    """A decode worker without a fault; it comes to know one prefill-0 after the other."""
    return start("decode-0")


@pytest.fixture(scope="module")
def mishearing(start: Start) -> Worker:
    """A decode worker that sees old admissions with every new one, and misses the next one when it is armed."""
    return start("decode-1", mishears=1)


def through(*prefill: Worker) -> dict[str, str]:
    """Return what tells a decode worker to ask these."""
    peers = ",".join(worker.peer() for worker in prefill)
    return {names.HEADER_PREFILL_WORKERS: peers, names.HEADER_DISAGGREGATE: "always"}


def acquaint(decode: Worker, prefill: Worker, name: str) -> None:
    """Hand short prompts over until the workers know each other; a busy peer may be left out for a second."""
    eventually(lambda: decode.ask([1, 2, 3], 1, through(prefill)).prefill == name, "the workers know each other")


def value(worker: Worker, name: str, label: str = "") -> float:
    return read(worker.peer())[name, label]


def at_rest(worker: Worker) -> bool:
    page = read(worker.peer())
    free = page[names.KV_BLOCKS, "free"] + page[names.KV_BLOCKS, "cached"]
    return free == page[names.KV_BLOCKS_CAPACITY, ""]


def quarantined(worker: Worker) -> bool:
    return value(worker, names.KV_BLOCKS, "quarantined") > 0


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_prefill_worker_that_dies_behind_a_layer_costs_no_answer(
    start: Start, decode: Worker, flag: Path, wanted: list[list[str]], layer: int
) -> None:
    prefill = start("prefill-0", layer=layer, signal=signal.SIGKILL)
    acquaint(decode, prefill, "prefill-0")
    eventually(lambda: at_rest(decode), "its return has freed what the process before it could write")
    flag.touch()
    answer = decode.ask(FRESH[layer], headers=through(prefill))
    assert (answer.tokens, answer.prefill) == (wanted[len(PROMPTS) + layer], "local")
    assert not flag.exists()
    eventually(lambda: prefill.ended, "the front of a dead engine ends")
    eventually(lambda: quarantined(decode), "what it could write is in quarantine")


def test_a_second_prefill_worker_answers_for_one_that_sleeps_in_mid_write_and_whose_waking_harms_nothing(
    start: Start, decode: Worker, flag: Path, wanted: list[list[str]], spare: Worker
) -> None:
    sleeper = start("prefill-0", layer=1, signal=signal.SIGSTOP)
    acquaint(decode, sleeper, "prefill-0")
    acquaint(decode, spare, "prefill-9")
    eventually(lambda: at_rest(decode), "nothing is left of others")
    flag.touch()
    answer = decode.ask(PROMPTS[1], headers=through(sleeper, spare))
    assert (answer.tokens, answer.prefill) == (wanted[1], "prefill-9")
    eventually(lambda: quarantined(decode), "what the sleeper could write is in quarantine")
    used = [decode.ask(prompt, headers=through(spare)).tokens for prompt in PROMPTS]
    assert quarantined(decode), "no time and no use frees what a sleeper may still write"
    os.killpg(sleeper.process.pid, signal.SIGCONT)
    eventually(lambda: at_rest(decode), "it has said that it writes no more")
    assert used == wanted[: len(PROMPTS)] == [decode.ask(prompt).tokens for prompt in PROMPTS]
    eventually(lambda: at_rest(sleeper), "it has given its own blocks back")


def test_a_lost_admission_costs_time_and_no_answer(
    mishearing: Worker, flag: Path, wanted: list[list[str]], spare: Worker
) -> None:
    acquaint(mishearing, spare, "prefill-9")
    flag.touch()
    assert mishearing.ask(PROMPTS[0], headers=through(spare)).tokens == wanted[0]
    assert not flag.exists()
    eventually(lambda: value(mishearing, f"{names.HANDOFFS}_total", "timed_out") >= 1, "the attempt was given up")
    eventually(lambda: at_rest(mishearing) and at_rest(spare), "both have all their blocks again")


def test_admissions_that_come_again_and_again_change_nothing(
    mishearing: Worker, wanted: list[list[str]], spare: Worker
) -> None:
    acquaint(mishearing, spare, "prefill-9")
    for _ in range(2):
        assert [mishearing.ask(prompt, headers=through(spare)).tokens for prompt in PROMPTS] == wanted[: len(PROMPTS)]
    eventually(lambda: at_rest(mishearing) and at_rest(spare), "both have all their blocks again")
