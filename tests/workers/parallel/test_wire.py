"""The connections between ranks of several nodes: who knows the secret comes in, nobody else, and nobody waits."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from headrace_worker.errors import RankError
from headrace_worker.parallel.address import address_towards, interface_towards
from headrace_worker.parallel.node import HEAD, RANKS, head_of
from headrace_worker.parallel.place import at_home
from headrace_worker.parallel.remote import Group
from headrace_worker.parallel.wire import Door, dial, key_of
from headrace_worker.settings import WorkerSettings

KEY = key_of("the deployment's own")
HOST = "127.0.0.1"


@pytest.fixture
def door() -> Iterator[Door]:
    with Door(HOST, KEY) as door:
        yield door


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_rank_that_knows_the_secret_is_let_in_by_its_number(door: Door, pool: ThreadPoolExecutor) -> None:
    coming = pool.submit(dial, HOST, door.port, 3, KEY, 5.0)
    come = door.accept(5.0)
    assert come is not None
    rank, ours = come
    with ours, coming.result(5.0) as theirs:
        assert rank == 3
        theirs.sendall(b"hello")
        assert ours.recv(5) == b"hello"


def test_a_rank_with_another_secret_is_kept_out(door: Door, pool: ThreadPoolExecutor) -> None:
    coming = pool.submit(dial, HOST, door.port, 3, key_of("another"), 5.0)
    assert door.accept(0.5) is None
    with pytest.raises(RankError, match="did not let rank 3 in; the secrets may differ"):
        coming.result(5.0)


def test_a_rank_leaves_one_who_does_not_know_the_secret(pool: ThreadPoolExecutor) -> None:
    with socket.create_server((HOST, 0)) as listener:
        coming = pool.submit(dial, HOST, listener.getsockname()[1], 3, KEY, 5.0)
        stranger, _ = listener.accept()
        with stranger:
            stranger.sendall(bytes(32))
            stranger.recv(4 + 64)
            stranger.sendall(bytes(32))
            with pytest.raises(RankError, match="does not know the deployment's secret"):
                coming.result(5.0)


def test_a_stranger_who_goes_early_does_not_keep_others_out(door: Door, pool: ThreadPoolExecutor) -> None:
    socket.create_connection((HOST, door.port)).close()
    coming = pool.submit(dial, HOST, door.port, 1, KEY, 5.0)
    come = door.accept(5.0)
    assert come is not None
    with come[1], coming.result(5.0):
        assert come[0] == 1


def test_nobody_is_waited_for_longer_than_told(door: Door) -> None:
    assert door.accept(0.05) is None


def test_a_head_that_is_not_there_is_named(door: Door) -> None:
    port = door.port
    door.close()
    with pytest.raises(RankError, match=f"rank 0 cannot be reached at 127.0.0.1 port {port}"):
        dial(HOST, port, 1, KEY, 1.0)


def test_the_interface_towards_this_machine_is_its_loopback() -> None:
    assert address_towards(HOST) == HOST
    assert interface_towards(HOST) == "lo"


@pytest.mark.parametrize(("pod", "members", "head"), [("m-0", 1, "h-0.s"), ("m-2", 1, "h-2.s"), ("m-5", 3, "h-1.s")])
def test_a_member_finds_its_head_by_its_own_number(pod: str, members: int, head: str) -> None:
    assert head_of("h-{group}.s", pod, members) == head


def test_a_rank_elsewhere_has_an_address_and_a_secret_of_its_node() -> None:
    told = WorkerSettings(model="m", name="m", host="0.0.0.0", advertise="10.0.0.1")
    own = at_home(told, {"HEADRACE_ADDRESS": "10.0.0.2", "HEADRACE_SECRET": "s"})
    assert (own.host, own.address, own.secret) == ("10.0.0.2", "10.0.0.2", "s")
    assert at_home(told, {"HEADRACE_SECRET": "s"}) == told


def test_each_node_offers_a_place_for_its_ranks_and_rank_0_takes_none() -> None:
    def bundles(ranks: int, nodes: int) -> list[dict[str, float]]:
        return Group("10.0.0.1", 6379, nodes, ranks, "s").bundles()

    assert bundles(2, 2) == [{HEAD: 1.0}, {RANKS: 1.0}]
    assert bundles(6, 3) == [{HEAD: 1.0, RANKS: 1.0}, {RANKS: 2.0}, {RANKS: 2.0}]
