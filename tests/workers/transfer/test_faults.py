"""Workers that are killed, stopped and restarted in the middle of a write: no block changes after it was released."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace_api.handoff import Dead
from headrace_worker.transfer.events import Aborted, Lost, Refused, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.transfer.conftest import Decode, Prefill

    from headrace_worker.transfer.events import Event

pytestmark = pytest.mark.processes
LEASE_S = 2.5
"""Long enough to be stopped within it on a busy machine."""
SCRIPT = Path(__file__).with_name("asker.py")


@pytest.fixture
def shape(transport_name: str) -> object:
    """Long enough that a worker is stopped or killed while it writes."""
    del transport_name
    return _Shape()


class _Shape:
    num_layers = 60
    num_blocks = 64
    block_bytes = 16 * 1024


def _until_written(decode: Decode, layer: int, block: int) -> None:
    until = time.monotonic() + 20.0
    while not decode.has(layer, block):
        assert time.monotonic() < until, "nothing was written"
        decode.woken.clear()
        decode.woken.wait(0.005)


def _ended(event: Event) -> bool:
    return isinstance(event, Aborted | Refused) and event.attempt == "a"


@pytest.mark.parametrize("silence_s", [5.0, 0.5], ids=["same connection", "new connection"])
def test_a_prefill_worker_stopped_beyond_its_lease_writes_nothing_after_its_answer(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode], silence_s: float
) -> None:
    p, d = prefill(layer_s=0.02), decode(silence_s=silence_s)
    incarnation = d.start(p, "a", 5, 32)
    d.grant(incarnation, "a", range(32), lease_s=LEASE_S)
    _until_written(d, 3, 31)
    p.stop()
    d.courier.abort(incarnation, "a")
    assert d.missing(_ended, LEASE_S + 0.2)
    p.signal(signal.SIGCONT)
    d.wait(_ended)
    for block in range(32):
        d.fill(block, 0xEE)
    p.wait(lambda line: line.get("settled") == "a")
    before = bytes(d.memory)
    d.fetch(p, "b", 6, range(32, 64))
    assert bytes(d.memory) == d.expected(6, range(32, 64), base=before)


def test_a_prefill_worker_stopped_beyond_its_lease_posts_no_more_and_says_so(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.02), decode()
    d.grant(d.start(p, "a", 5, 8), "a", range(8), lease_s=LEASE_S)
    _until_written(d, 3, 7)
    p.stop()
    assert d.missing(_ended, LEASE_S + 0.2)
    p.signal(signal.SIGCONT)
    refused = d.expect(Refused, "a")
    assert "lease" in refused.reason
    before = bytes(d.memory)
    assert not d.has(59, 0)
    d.fetch(p, "b", 6, range(32, 64))
    assert bytes(d.memory) == d.expected(6, range(32, 64), base=before)


def test_a_lease_that_is_not_renewed_ends_an_attempt(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.05), decode()
    d.grant(d.start(p, "a", 5, 2), "a", [0, 1], lease_s=0.3)
    assert "lease" in d.expect(Refused, "a").reason
    assert p.wait(lambda line: line.get("settled") == "a")["outcome"] == "refused"


def test_a_killed_prefill_worker_is_lost_at_once_and_proves_nothing_until_it_returns(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.02), decode()
    incarnation = d.start(p, "a", 5, 8)
    d.grant(incarnation, "a", range(8))
    _until_written(d, 3, 7)
    p.kill()
    assert d.expect(Lost, deadline_s=3.0).incarnation == incarnation
    d.courier.abort(incarnation, "a")
    assert d.missing(_ended, 1.2)
    again = prefill(port=int(p.address.rsplit(":", 1)[1]))
    returned = d.expect(Returned)
    assert (returned.old, returned.new) == (incarnation, again.settings["incarnation"])
    before = bytes(d.memory)
    d.fetch(again, "b", 6, range(8, 24))
    assert bytes(d.memory) == d.expected(6, range(8, 24), base=before)


def test_a_prefill_worker_that_returns_at_another_address_is_known_by_its_name(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.02), decode()
    incarnation = d.start(p, "a", 5, 8)
    d.grant(incarnation, "a", range(8))
    _until_written(d, 3, 7)
    p.kill()
    d.expect(Lost)
    d.courier.abort(incarnation, "a")
    again = prefill()
    d.fetch(again, "b", 6, range(8, 24))
    assert d.expect(Returned).old == incarnation


def test_after_word_of_its_death_nothing_is_waited_for(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.02), decode()
    incarnation = d.start(p, "a", 5, 8)
    p.kill()
    d.expect(Lost)
    d.courier.abort(incarnation, "a")
    d.courier.dead(Dead(incarnation))
    d.courier.abort(incarnation, "a")
    d.expect(Aborted, "a")


def test_a_prefill_worker_that_is_stopped_before_the_handshake_is_given_up(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(), decode(silence_s=0.4)
    p.stop()
    d.ask(p, "a", 5, 1)
    assert "did not answer a hello" in d.expect(Refused, "a", deadline_s=3.0).reason


def test_a_decode_worker_killed_while_it_is_written_does_not_harm_the_prefill_worker(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p = prefill(layer_s=0.02)
    asker = subprocess.Popen(
        [sys.executable, str(SCRIPT), json.dumps(p.settings), p.address, "32"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with asker:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "written\n"
        os.kill(asker.pid, signal.SIGKILL)
    settled = p.wait(lambda line: line.get("settled") == "doomed")
    assert settled["outcome"] in {"aborted", "refused"}
    d = decode()
    d.fetch(p, "b", 6, range(16))
    assert bytes(d.memory) == d.expected(6, range(16))


def test_a_decode_worker_that_restarts_is_written_at_its_new_memory(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, old = prefill(layer_s=0.01), decode()
    old.fetch(p, "a", 5, range(4))
    old.grant(old.start(p, "b", 6, 8), "b", range(8))
    _until_written(old, 2, 7)
    old.courier.close()
    new = decode()
    new.fetch(p, "c", 7, range(10))
    assert bytes(new.memory) == new.expected(7, range(10))
    assert p.wait(lambda line: line.get("settled") == "b")["outcome"] != "admitted"
