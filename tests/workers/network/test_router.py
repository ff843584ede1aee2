"""A router between clients and decode workers over bad networks: every answer is the known one, and comes once."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.workers.network.lane import Fault
from tests.workers.network.net import MOST_TOKENS, Net
from tests.workers.network.space import missing
from tests.workers.network.wire import during
from tests.workers.parallel.rig import DEADLINE_S, Worker, eventually, running, write_llama

from headrace_api import names

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[3]
CUT = Fault(cut=True)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": 3, "head_dim": 32}
    model = write_llama(tmp_path_factory.mktemp("model") / "model", **sizes)
    with ExitStack() as stack:
        whole = stack.enter_context(running(tmp_path_factory.mktemp("whole") / "worker", model))
        net = Net(tmp_path_factory.mktemp("net"), model, "nixl", whole)
        stack.callback(net.close)
        yield net


@pytest.fixture(scope="module")
def spare(net: Net) -> Worker:
    """A second decode worker, behind another link."""
    return net.start("decode-1", net.beyond)


@pytest.fixture(scope="module")
def url(net: Net, spare: Worker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a router in the network of the client, which is told of all workers."""
    folder = tmp_path_factory.mktemp("router")
    workers = {"prefill-0": net.prefill, "decode-0": net.decode, "decode-1": spare}
    listed = [
        {"deployment": "tiny", "role": name.partition("-")[0], "url": worker.peer(), "pid": 1, "worker": name}
        for name, worker in workers.items()
    ]
    (folder / "state.json").write_text(json.dumps({"router": None, "workers": listed}))
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "headrace_router", "--port", "0", "--ready-file", str(ready)]
    command += ["--discovery", f"file:{folder / 'state.json'}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("crds", "router"))}
    process = net.outside.call(subprocess.Popen, command, env=environment)
    try:
        eventually(ready.exists, "the router listens")
        yield json.loads(ready.read_text())["url"]
    finally:
        process.kill()
        process.wait()


def ask(url: str, prompt: list[int], *, stream: bool) -> tuple[list[str], str]:
    """Return the tokens of an answer, and who decoded its beginning."""
    body = {"model": "tiny", "prompt": prompt, "max_tokens": MOST_TOKENS, "temperature": 0, "ignore_eos": True}
    body |= {"logprobs": 1, "stream": stream}
    with httpx.Client(timeout=DEADLINE_S, trust_env=False) as client:
        answer = client.post(f"{url}/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    said = [choice for event in (events if stream else [answer.json()]) for choice in event["choices"]]
    tokens = [token for choice in said if choice["logprobs"] for token in choice["logprobs"]["tokens"]]
    assert not stream or "data: [DONE]" in answer.text
    return tokens, answer.headers[names.HEADER_DECODE]


def ask_all(net: Net, url: str, prompts: list[list[int]]) -> set[str]:
    """Ask at once, every other one as a stream; each answer is the known one. Return who decoded."""
    answers = [net.outside.submit(ask, url, prompt, stream=number % 2 == 0) for number, prompt in enumerate(prompts)]
    assert [answer.result()[0] for answer in answers] == [net.known(prompt) for prompt in prompts]
    return {answer.result()[1] for answer in answers}


@pytest.mark.parametrize(
    "fault", [Fault(delay_s=0.1), Fault(loss=0.05), Fault(delay_s=0.02, loss=0.02)], ids=["far", "lossy", "both"]
)
def test_answers_come_whole_and_once_however_bad_all_links_are(net: Net, url: str, fault: Fault) -> None:
    with during(fault, *net.wire.lanes):
        ask_all(net, url, [net.fresh(size) for size in (20, 40, 90, 150, 200, 33, 70, 111)])


def test_a_decode_worker_that_cannot_be_reached_any_more_costs_no_answer(net: Net, url: str, spare: Worker) -> None:
    ask_all(net, url, [net.fresh(20) for _ in range(4)])
    link = net.wire.between(net.outside, net.far)
    with during(Fault(bytes_per_s=2000.0), *link):
        carried = link[1].carried
        prompts = [net.fresh(60) for _ in range(8)]
        answers = [net.outside.submit(ask, url, prompt, stream=True) for prompt in prompts]
        eventually(lambda: link[1].carried > carried + 3, "an answer is on its way")
        with during(CUT, *link):
            assert [answer.result()[0] for answer in answers] == [net.known(prompt) for prompt in prompts]
            assert ask_all(net, url, [net.fresh(30) for _ in range(4)]) == {"decode-1"}
    eventually(lambda: "decode-0" in ask_all(net, url, [net.fresh(20)]), "what can be reached again is asked again")
    eventually(lambda: net.at_rest(net.prefill, net.decode, spare), "all have all their blocks again")
