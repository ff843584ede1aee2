"""The hand-off between two processes, on both transports: what arrives, and who is let in."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace_api.handoff import Attempt, Layout
from headrace_api.sampling import Sampling
from headrace_worker.errors import TransferError
from headrace_worker.messages import PrefillPeer
from headrace_worker.transfer.courier import Courier
from headrace_worker.transfer.events import Aborted, Admitted, Alive, Lost, Refused
from headrace_worker.transfer.pick import pick
from headrace_worker.transfer.sockets import SocketTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.transfer.conftest import Decode, Prefill, Shape

pytestmark = pytest.mark.processes


def test_every_block_of_every_layer_arrives_and_nothing_else_changes(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode], shape: Shape
) -> None:
    p, d = prefill(hit_blocks=3), decode()
    blocks = random.Random(1).sample(range(shape.num_blocks), 20)
    admitted = d.fetch(p, "a", 5, blocks)
    # Compared at once: the notification must not overtake the data.
    assert bytes(d.memory) == d.expected(5, blocks)
    assert (admitted.admit.first_token, admitted.admit.cached_tokens) == (6, 3)
    assert admitted.admit.top == ((7, -0.5),)
    sent = p.wait(lambda line: line.get("settled") == "a")
    assert (sent["outcome"], sent["sent"]) == ("admitted", 20 * shape.num_layers * shape.block_bytes)


def test_workers_that_listen_everywhere_meet_at_the_addresses_they_advertise(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    everywhere = {"host": "0.0.0.0", "advertise": "127.0.0.1"}
    p, d = prefill(**everywhere), decode(**everywhere)
    assert p.address.startswith("tcp://127.0.0.1:")
    assert d.courier.address.startswith("tcp://127.0.0.1:")
    d.fetch(p, "a", 5, [3, 1, 2])
    assert bytes(d.memory) == d.expected(5, [3, 1, 2])


def test_blocks_that_the_decode_worker_has_are_not_written(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(hit_blocks=6), decode()
    d.grant(d.start(p, "a", 5, 10), "a", [40, 41, 12], first=7)
    d.expect(Admitted, "a")
    assert bytes(d.memory) == d.expected(5, [40, 41, 12], first=7)


def test_many_attempts_in_many_shapes_all_arrive(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode], shape: Shape
) -> None:
    p, d = prefill(hit_blocks=2), decode()
    dice = random.Random(2)
    expected = bytes(len(d.memory))
    for number in range(25):
        size = dice.randint(1, 30)
        blocks = dice.sample(range(shape.num_blocks), size)
        blocks = sorted(blocks) if dice.random() < 0.5 else blocks
        d.fetch(p, f"a{number}", 100 + number, blocks)
        expected = d.expected(100 + number, blocks, base=expected)
        assert bytes(d.memory) == expected


def test_attempts_of_two_decode_workers_do_not_mix(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, one, two = prefill(), decode(worker="decode-1"), decode(worker="decode-2")
    for d, name, prompt in ((one, "a", 5), (two, "b", 6), (one, "c", 7)):
        before = bytes(d.memory)
        d.fetch(p, name, prompt, [3, 4, 9])
        assert bytes(d.memory) == d.expected(prompt, [3, 4, 9], base=before)


def test_a_running_attempt_gives_signs_of_life_while_it_computes(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.3), decode()
    d.grant(d.start(p, "a", 5, 4), "a", [0, 1, 2, 3])
    assert "a" in d.expect(Alive).attempts
    assert "a" in d.expect(Alive).attempts
    d.expect(Admitted, "a")


def test_an_aborted_attempt_is_answered_and_its_blocks_stay_untouched_from_then_on(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(layer_s=0.05), decode()
    incarnation = d.start(p, "a", 5, 8)
    d.grant(incarnation, "a", range(8))
    d.courier.abort(incarnation, "a")
    d.expect(Aborted, "a")
    before = bytes(d.memory)
    assert p.wait(lambda line: line.get("stopped") == "a")
    # The next attempt for the same sequence has its own blocks.
    d.fetch(p, "b", 5, range(8, 16))
    assert bytes(d.memory) == d.expected(5, range(8, 16), base=before)


def test_an_attempt_that_was_never_sent_is_aborted_at_once(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(), decode()
    d.courier.abort(p.settings["incarnation"], "never")
    d.expect(Aborted, "never")


def test_a_wrong_secret_is_refused_in_a_sentence(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(), decode(secret="another secret")
    d.ask(p, "a", 5, 1)
    refused = d.expect(Refused, "a")
    assert refused.incarnation is None
    assert "same secret" in refused.reason
    assert p.address in refused.reason


def test_a_missing_secret_is_refused(prefill: Callable[..., Prefill], decode: Callable[..., Decode]) -> None:
    p, d = prefill(), decode(secret="", silence_s=1.0)
    d.ask(p, "a", 5, 1)
    d.expect(Refused, "a")


def test_without_secrets_workers_talk_plainly(prefill: Callable[..., Prefill], decode: Callable[..., Decode]) -> None:
    p, d = prefill(secret=""), decode(secret="")
    d.fetch(p, "a", 5, [1, 2])
    assert bytes(d.memory) == d.expected(5, [1, 2])


def test_a_hash_mismatch_names_both_hashes(prefill: Callable[..., Prefill], decode: Callable[..., Decode]) -> None:
    p, d = prefill(), decode(kv_hash="hash-b")
    d.ask(p, "a", 5, 1)
    reason = d.expect(Refused, "a").reason
    assert "'hash-a'" in reason
    assert "'hash-b'" in reason


def test_a_prefill_worker_that_is_not_there_is_refused_at_once(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    p, d = prefill(), decode()
    p.kill()
    d.ask(p, "a", 5, 1)
    assert "nobody listens" in d.expect(Refused, "a", deadline_s=3.0).reason


def test_an_address_that_cannot_be_read_is_refused(decode: Callable[..., Decode]) -> None:
    d = decode()
    d.courier.ask(PrefillPeer("p", "no address", "1"), Attempt("a", (1,), (), 0, Sampling(max_tokens=1), 0, 1.0))
    assert "'no address'" in d.expect(Refused, "a").reason


def test_a_port_in_use_is_said_in_a_sentence(decode: Callable[..., Decode], transport_name: str) -> None:
    d = decode()
    port = int(d.courier.address.rsplit(":", 1)[1])
    memory = bytearray(4096)
    with pytest.raises(TransferError, match="choose a free `handoff_port`"):
        Courier(
            worker="w",
            incarnation="i",
            kv_hash="h",
            secret="",
            host="127.0.0.1",
            port=port,
            transport=pick(transport_name, incarnation="i", host="127.0.0.1", secret=""),  # type: ignore[arg-type]
            kv_address=d.address,
            layout=Layout(d.address, 1, 1, len(memory)),
            silence_s=1.0,
            wake=lambda: None,
        )


def test_close_leaves_no_thread_no_descriptor_and_no_shared_memory(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    warm = decode()
    warm.courier.close()  # libraries open what they keep for good on first use
    shared, threads, descriptors = _shared_memory(), threading.active_count(), _descriptors()
    p, d = prefill(), decode()
    d.fetch(p, "a", 5, [1, 2])
    d.courier.close()
    assert p.end() == 0
    assert p.wait(lambda line: "closed" in line)["threads"] == ["MainThread"]
    assert threading.active_count() == threads
    assert _descriptors() == descriptors
    assert _shared_memory() <= shared


def test_a_killed_worker_leaves_no_shared_memory(
    prefill: Callable[..., Prefill], decode: Callable[..., Decode]
) -> None:
    shared = _shared_memory()
    p, d = prefill(layer_s=0.2), decode()
    d.grant(d.start(p, "a", 5, 4), "a", [0, 1, 2, 3])
    p.kill()
    d.expect(Lost)
    d.courier.close()
    assert _shared_memory() <= shared


def test_the_sockets_transport_refuses_gpu_memory() -> None:
    transport = SocketTransport(incarnation="i", host="127.0.0.1", secret="")
    with pytest.raises(TransferError, match="host memory only"):
        transport.register(0, 4096, 0)


def test_auto_is_nixl_on_linux_and_sockets_elsewhere() -> None:
    options = {"incarnation": "i", "host": "127.0.0.1", "secret": ""}
    assert pick("auto", **options, platform="linux").name == "nixl"
    assert pick("auto", **options, platform="darwin").name == "sockets"
    assert pick("sockets", **options, platform="linux").name == "sockets"


def test_a_missing_nixl_is_an_error_and_never_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_worker.transfer.pick.find_spec", lambda _: None)
    with pytest.raises(TransferError, match="needs the package 'nixl'"):
        pick("auto", incarnation="i", host="127.0.0.1", secret="", platform="linux")


def _shared_memory() -> set[str]:
    """Return what of this user's shared memory outlives its processes: POSIX names and System V segments."""
    names = {path.name for path in Path("/dev/shm").iterdir()} if Path("/dev/shm").is_dir() else set()
    segments = Path("/proc/sysvipc/shm")
    if segments.is_file():
        names |= {line.split()[1] for line in segments.read_text().splitlines()[1:]}
    return names


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
