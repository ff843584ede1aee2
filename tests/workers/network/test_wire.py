"""The network that other tests have: it carries, delays, loses and cuts what it should."""

import random
import socket
import time
from collections.abc import Iterator

import pytest
from tests.workers.network.lane import Fault, Lane
from tests.workers.network.space import Space, missing
from tests.workers.network.wire import Wire, during

DEADLINE_S = 30.0
SIZE = 200_000


def test_a_good_lane_delivers_at_once_and_a_far_one_later() -> None:
    assert Lane(random.Random(0)).arrival_s(1500, 7.0) == 7.0
    assert Lane(random.Random(0), Fault(delay_s=0.5)).arrival_s(1500, 7.0) == 7.5


def test_a_lossy_lane_loses_its_share() -> None:
    lane = Lane(random.Random(0), Fault(loss=0.05))
    arrived = [lane.arrival_s(1500, 0.0) for _ in range(10_000)]
    assert 400 < arrived.count(None) < 600
    assert (lane.dropped, lane.carried) == (arrived.count(None), 10_000 - arrived.count(None))


def test_packets_stand_in_line_where_the_lane_is_narrow() -> None:
    lane = Lane(random.Random(0), Fault(bytes_per_s=1000.0))
    assert [lane.arrival_s(500, now_s) for now_s in (0.0, 0.0, 5.0)] == [0.5, 1.0, 5.5]


def test_nothing_arrives_over_a_cut_lane() -> None:
    assert Lane(random.Random(0), Fault(cut=True)).arrival_s(1, 0.0) is None


@pytest.fixture(scope="module")
def spaces() -> Iterator[tuple[Wire, Space, Space]]:
    if (reason := missing()) is not None:
        pytest.skip(reason)
    wire = Wire()
    one, other = wire.space(), wire.space()
    wire.start()
    yield wire, one, other
    wire.close()


def _serve(listener: socket.socket) -> int:
    """Return how many bytes come on one connection, after saying so to the other end."""
    with listener, listener.accept()[0] as connection:
        connection.settimeout(DEADLINE_S)
        size = 0
        while size < SIZE and (data := connection.recv(65536)):
            size += len(data)
        connection.sendall(b"!")
        return size


def _send(address: tuple[str, int]) -> float:
    """Send all bytes and return how long the answer took."""
    began_s = time.monotonic()
    with socket.create_connection(address, timeout=DEADLINE_S) as connection:
        connection.sendall(bytes(SIZE))
        assert connection.recv(1) == b"!"
    return time.monotonic() - began_s


def _listen(address: str) -> socket.socket:
    listener = socket.create_server((address, 0))
    listener.settimeout(DEADLINE_S)
    return listener


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [
        (Fault(), 0.0),
        (Fault(delay_s=0.1), 0.4),
        (Fault(loss=0.05), 0.0),
        (Fault(bytes_per_s=400_000.0), 0.5),
    ],
    ids=["good", "far", "lossy", "narrow"],
)
def test_all_bytes_arrive_however_bad_the_network_is(
    spaces: tuple[Wire, Space, Space], fault: Fault, least_s: float
) -> None:
    wire, one, other = spaces
    listener = one.call(_listen, one.address)
    with during(fault, *wire.between(one, other)):
        served = one.submit(_serve, listener)
        took_s = other.call(_send, listener.getsockname())
    assert served.result() == SIZE
    assert took_s >= least_s


def test_a_cut_lets_nothing_through_in_either_direction(spaces: tuple[Wire, Space, Space]) -> None:
    wire, one, other = spaces
    with one.call(_listen, one.address) as listener:
        for lane in wire.between(one, other):
            with during(Fault(cut=True), lane), pytest.raises(TimeoutError):
                other.call(socket.create_connection, listener.getsockname(), 0.5)


def test_spaces_see_their_own_network_only(spaces: tuple[Wire, Space, Space]) -> None:
    _, one, other = spaces
    with one.call(_listen, "127.0.0.1") as listener, pytest.raises(ConnectionRefusedError):
        other.call(socket.create_connection, listener.getsockname(), 1.0)
