"""State files, logs, ports, metrics, pauses: the thin parts of the local backend."""

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_operator.desired import DeploymentName, WorkerName
from headrace_operator.http.client import sum_transferred
from headrace_operator.local.backoff import pause_s
from headrace_operator.local.group import describe_exit
from headrace_operator.local.logs import Follower, last_lines, trim
from headrace_operator.local.machine import count_processors, port_is_free
from headrace_operator.local.state import document, read_json, write_json
from headrace_operator.observed import Endpoint

ENDPOINT = Endpoint(WorkerName("a-decode-0"), DeploymentName("a"), "decode", "http://w", "i1", "p1")


def test_the_state_has_the_shape_that_the_router_reads() -> None:
    assert document(("http://r", 7), [ENDPOINT], {"a-decode-0": 8}, {"b", "a"}) == {
        "models": ["a", "b"],
        "router": {"url": "http://r", "pid": 7},
        "workers": [
            {
                "deployment": "a",
                "role": "decode",
                "url": "http://w",
                "pid": 8,
                "worker": "a-decode-0",
                "name": "a-decode-0",
                "incarnation": "i1",
                "pairing": "p1",
            }
        ],
    }


def test_a_worker_without_a_process_is_not_in_the_state() -> None:
    assert document(None, [ENDPOINT], {}, ()) == {"router": None, "models": [], "workers": []}


def test_a_file_is_replaced_as_a_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"old": 1})
    before = path.stat().st_ino
    write_json(path, {"new": 2})
    assert path.stat().st_ino != before
    assert json.loads(path.read_text()) == {"new": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", [None, "", "{", "[1]"])
def test_a_file_that_is_no_object_reads_as_nothing(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    assert read_json(path) is None


def test_the_last_lines_of_a_log_leave_out_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_lines(path, 2) == []
    path.write_text("a\nb\n\nc\n\n")
    assert last_lines(path, 2) == ["b", "c"]
    assert last_lines(path, 9, since=4) == ["c"]
    assert last_lines(path, 9, since=999) == ["a", "b", "c"]


def test_a_follower_gives_each_complete_line_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    follower = Follower(path)
    assert list(follower.lines()) == []
    path.write_text("a\nb")
    assert list(follower.lines()) == ["a"]
    with path.open("a") as file:
        file.write("c\nd\n")
    assert list(follower.lines()) == ["bc", "d"]
    path.write_text("e\n")
    assert list(follower.lines()) == ["e"]


def test_a_log_that_grew_too_large_is_cut_to_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {number}\n" for number in range(1000)))
    assert not trim(path, 100_000)
    assert trim(path, 100)
    lines = path.read_text().splitlines()
    assert lines[-1] == "line 999"
    assert path.stat().st_size <= 100
    assert lines[0].startswith("line ")
    assert not trim(tmp_path / "none", 1)


def test_a_quota_bounds_the_processors(tmp_path: Path) -> None:
    path = tmp_path / "cpu.max"
    everything = count_processors(path)
    path.write_text("max 100000\n")
    assert count_processors(path) == everything >= 1
    path.write_text("50000 100000\n")
    assert count_processors(path) == 1
    path.write_text("nonsense")
    assert count_processors(path) == everything


def test_a_port_is_free_until_someone_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free("127.0.0.1", port)
    assert port_is_free("127.0.0.1", port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign"):
        port_is_free("192.0.2.1", 0)


def test_the_transfer_counter_is_summed_by_direction() -> None:
    page = (
        "# TYPE headrace_kv_transfer_bytes counter\n"
        'headrace_kv_transfer_bytes_total{direction="sent",model="m"} 3.0\n'
        'headrace_kv_transfer_bytes_total{model="m",direction="received"} 1.5e3\n'
        'headrace_kv_transfer_bytes_created{direction="sent"} 1.7e9\n'
        'headrace_kv_transfer_bytes_total{direction="sent",model="n"} 4\n'
    )
    assert (sum_transferred(page, "sent"), sum_transferred(page, "received")) == (7, 1500)
    assert sum_transferred("", "sent") == 0


def test_an_exit_is_told_in_words() -> None:
    assert describe_exit(1) == "exited with code 1"
    assert describe_exit(-9) == "was killed by SIGKILL"
    assert describe_exit(-40) == "was killed by signal 40"


@given(st.integers(1, 10**6), st.floats(0.01, 10), st.floats(10, 100))
def test_pauses_grow_to_their_bound_and_never_beyond(failures: int, first_s: float, most_s: float) -> None:
    assert first_s <= pause_s(failures, first_s, most_s) <= most_s
    assert pause_s(failures, first_s, most_s) <= pause_s(failures + 1, first_s, most_s)


def test_pauses_double() -> None:
    assert [pause_s(failures, 0.5, 30) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    with pytest.raises(ValueError, match="at least one failure"):
        pause_s(0, 0.5, 30)
