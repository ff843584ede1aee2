"""Hand-offs over bad networks: every answer is the known one, and no block is lost for good."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.workers.network.lane import Fault
from tests.workers.network.net import SECRET, SILENCE_S, Net
from tests.workers.network.space import missing
from tests.workers.network.wire import during
from tests.workers.parallel.rig import Answered, Worker, eventually, running, write_llama

from headrace_api.handoff import authorization

pytestmark = pytest.mark.processes
LONG = 1000
"""Tokens whose KV takes seconds over a narrow line: 1536 bytes each."""
NARROW = Fault(bytes_per_s=300_000.0)
CUT = Fault(cut=True)
LEASE_S = 2 * SILENCE_S


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": 3, "head_dim": 32}
    return write_llama(tmp_path_factory.mktemp("model") / "model", **sizes)


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    with running(tmp_path_factory.mktemp("whole") / "worker", model) as worker:
        yield worker


@pytest.fixture(scope="module", params=["nixl", "sockets"])
def net(
    request: pytest.FixtureRequest, model: Path, whole: Worker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("net"), model, request.param, whole)
    try:
        yield net
    finally:
        net.close()


@pytest.mark.parametrize(
    "fault",
    [Fault(), Fault(delay_s=0.1), Fault(loss=0.05), Fault(delay_s=0.02, loss=0.02, bytes_per_s=1e6)],
    ids=["good", "far", "lossy", "all of it"],
)
def test_prompts_are_handed_over_however_bad_the_network_is(net: Net, fault: Fault) -> None:
    lanes = [*net.wire.between(net.near, net.far), *net.wire.between(net.far, net.outside)]
    carried = net.wire.lane(net.near, net.far).carried
    with during(fault, *lanes):
        for size in (20, 90, 300):
            net.hand_over(size)
    assert net.wire.lane(net.near, net.far).carried > carried + 10
    eventually(lambda: net.at_rest(net.prefill, net.decode), "both have all their blocks again")


@contextmanager
def in_mid_write(net: Net) -> Iterator[Future[Answered]]:
    """Have a long prompt on its narrow way from the prefill to the decode worker, some of its KV written."""
    lane = net.wire.lane(net.near, net.far)
    with during(NARROW, lane):
        carried = lane.carried
        answer = net.client.submit(net.ask, net.fresh(LONG))
        eventually(lambda: lane.carried > carried + 100, "KV is being written")
        eventually(lambda: net.blocks(net.decode, "granted") > 0, "the page, a second old at most, shows its blocks")
        yield answer


def outlast(seconds: float) -> None:
    """Wait until what lasts so long is over."""
    end_s = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end_s, "the clock goes on")


@pytest.mark.parametrize("directions", [(0, 1), (0,), (1,)], ids=["both ways", "towards decode", "towards prefill"])
def test_a_link_that_is_cut_in_mid_write_for_longer_than_the_lease_costs_no_answer_and_no_block(
    net: Net, directions: tuple[int, ...]
) -> None:
    net.hand_over(20)
    lanes = net.wire.between(net.near, net.far)
    with in_mid_write(net) as coming, during(CUT, *(lanes[number] for number in directions)):
        answer = coming.result()
        eventually(lambda: net.blocks(net.decode, "quarantined") > 0, "blocks that may still be written wait")
        outlast(LEASE_S)
        net.ask(net.fresh(50))
    assert answer.prefill == "local"
    eventually(lambda: net.at_rest(net.prefill, net.decode), "both have all their blocks again")
    net.hand_over(50)


@pytest.mark.parametrize("proof", ["word", "return"])
def test_what_a_prefill_worker_had_sent_before_it_died_behind_a_cut_link_never_arrives(net: Net, proof: str) -> None:
    """Its end is not heard of, and its kernel would send what it had queued once the link is back.

    Its blocks are others' as soon as its backend vouches for its end, or it comes back as another process.
    """
    net.hand_over(20)
    incarnation = net.outside.call(net.prefill.client.get, "/handoff").json()["incarnation"]
    prompts = [net.fresh(300) for _ in range(4)]
    with in_mid_write(net) as coming, during(CUT, *net.wire.between(net.near, net.far)):
        net.prefill.kill()
        cut_s = time.monotonic()
        assert coming.result().prefill == "local"
        eventually(lambda: net.blocks(net.decode, "quarantined") > 0, "its blocks wait for its end")
        if proof == "word":
            vouch(net, incarnation)
            tokens = [net.ask(prompt).tokens for prompt in prompts]
        net.prefill = net.start("prefill-0", net.near)
    net.hand_over(50)
    eventually(lambda: net.at_rest(net.prefill, net.decode), "both have all their blocks again")
    if proof == "return":
        tokens = [net.ask(prompt).tokens for prompt in prompts]
    outlast(time.monotonic() - cut_s)  # the kernel's pauses between two tries double each time
    again = [net.ask(prompt) for prompt in prompts]
    assert [answer.tokens for answer in again] == tokens
    assert all(answer.cached_tokens > 0 for answer in again)


def vouch(net: Net, incarnation: str) -> None:
    """Tell the decode worker that a process has ended, as who started it may; its blocks are free then."""
    body, word = {"incarnation": incarnation}, {"authorization": authorization(SECRET)}
    assert net.outside.call(net.decode.client.post, "/handoff/dead", json=body, headers=word).status_code == 200
    eventually(lambda: net.blocks(net.decode, "quarantined") == 0, "its blocks are free")


def test_a_decode_worker_that_dies_behind_a_cut_link_and_comes_back_is_served_again(net: Net) -> None:
    net.hand_over(20)
    with in_mid_write(net) as coming, during(CUT, *net.wire.between(net.near, net.far)):
        net.decode.kill()
        with pytest.raises(httpx.HTTPError):
            coming.result()
        net.decode = net.start("decode-0", net.far)
    net.hand_over(50)
    eventually(lambda: net.at_rest(net.prefill, net.decode), "both have all their blocks again")
