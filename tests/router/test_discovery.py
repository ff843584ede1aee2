"""State files: several of them, missing, broken, replaced."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.router.rig import chat, rig, run

from headrace_router.discovery.file import FileDiscovery, parse_state
from headrace_router.discovery.source import Files, Pods, parse_source
from headrace_router.discovery.worker import Worker
from headrace_router.errors import DiscoveryError


def _entry(number: int, **fields: Any) -> dict[str, Any]:
    entry = {"deployment": "chat", "role": "decode", "url": f"http://127.0.0.1:{9000 + number}", "pid": number}
    return entry | fields


def _write(path: Path, *entries: dict[str, Any]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"router": {"url": "http://x", "pid": 1}, "workers": list(entries), "more": 1}))
    partial.replace(path)


class Listener:
    """Keeps what discovery said last."""

    def __init__(self) -> None:
        self.calls = 0
        self.incarnations: list[str] = []
        self.models: set[str] = set()

    def __call__(self, workers: tuple[Worker, ...], models: frozenset[str]) -> None:
        self.calls += 1
        self.incarnations = [worker.incarnation for worker in workers]
        self.models = set(models)


def test_workers_of_all_files_are_listed_and_missing_files_are_empty(tmp_path: Path) -> None:
    listener = Listener()
    discovery = FileDiscovery([str(tmp_path / name) for name in ("a", "b", "none")], listener)
    discovery.poll()
    assert listener.calls == 0
    _write(tmp_path / "a", _entry(1))
    _write(tmp_path / "b", _entry(2, deployment="other"))
    discovery.poll()
    assert (listener.incarnations, listener.models) == (["1", "2"], {"chat", "other"})
    discovery.poll()
    assert listener.calls == 1
    (tmp_path / "a").unlink()
    discovery.poll()
    assert (listener.incarnations, listener.models) == (["2"], {"other"})


def test_a_file_replaced_within_one_clock_tick_is_noticed(tmp_path: Path) -> None:
    listener = Listener()
    path = tmp_path / "a"
    discovery = FileDiscovery([str(path)], listener)
    for number in range(1, 9):
        _write(path, _entry(number))
        discovery.poll()
        assert listener.incarnations == [str(number)]


def test_a_model_whose_workers_have_all_left_stays_known_while_its_file_is_there(tmp_path: Path) -> None:
    listener = Listener()
    discovery = FileDiscovery([str(tmp_path / "a")], listener)
    _write(tmp_path / "a", _entry(1))
    discovery.poll()
    _write(tmp_path / "a")
    discovery.poll()
    assert (listener.incarnations, listener.models) == ([], {"chat"})


def test_a_broken_file_keeps_the_workers_read_before(tmp_path: Path) -> None:
    listener = Listener()
    discovery = FileDiscovery([str(tmp_path / "a")], listener)
    _write(tmp_path / "a", _entry(1))
    discovery.poll()
    (tmp_path / "a").write_text('{"workers": [')
    discovery.poll()
    assert listener.incarnations == ["1"]
    _write(tmp_path / "a", _entry(2))
    discovery.poll()
    assert listener.incarnations == ["2"]


@pytest.mark.parametrize(
    "entry",
    [
        {"role": "decode", "url": "http://a:1", "pid": 1},
        _entry(1, role="cook"),
        _entry(1, url="https://a:1"),
        _entry(1, url="127.0.0.1:1"),
        _entry(1, url="http://a:99999"),
        _entry(1, url="http://a:1/\r\nx: y"),
        _entry(1, pid="one"),
    ],
)
def test_what_is_no_worker_is_an_error_that_names_the_file(entry: dict[str, Any]) -> None:
    with pytest.raises(DiscoveryError, match=r"here\.json"):
        parse_state(json.dumps({"workers": [entry]}).encode(), "here.json")


def test_urls_and_names_are_understood() -> None:
    entries = [_entry(1, url="http://h/base/", worker="d0"), _entry(2, url="http://[::1]:8/")]
    one, two = parse_state(json.dumps({"workers": entries}).encode(), "x").workers
    assert (one.host, one.port, one.path, one.name, one.authority) == ("h", 80, b"/base", "d0", b"h")
    assert (two.host, two.port, two.path, two.authority) == ("::1", 8, b"", b"[::1]:8")


def test_an_incarnation_in_the_file_tells_starts_apart_where_process_ids_come_again() -> None:
    first, second = (_entry(1, incarnation=name, pairing="x") for name in ("a", "b"))
    (one,), (other,) = (_workers(entry) for entry in (first, second))
    assert one != other
    assert (one.incarnation, one.pairing) == ("a", "x")
    assert _workers(_entry(1))[0].pairing == ""


def _workers(entry: dict[str, Any]) -> tuple[Worker, ...]:
    return parse_state(json.dumps({"workers": [entry]}).encode(), "x").workers


def test_models_that_a_file_lists_are_known_for_as_long_as_it_does(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    told: list[frozenset[str]] = []
    discovery = FileDiscovery([str(path)], lambda _, models: told.append(models))
    states: list[dict[str, Any]] = [
        {"models": ["a", "b"], "workers": []},
        {"models": ["b"], "workers": []},
        {"workers": [_entry(1)]},
        {"workers": []},
    ]
    for state in states:
        path.write_text(json.dumps(state))
        discovery.poll()
    chat = _entry(1)["deployment"]
    assert told == [frozenset("ab"), frozenset("b"), frozenset(("b", chat)), frozenset(("b", chat))]


def test_the_source_names_files_or_deployments_by_namespace() -> None:
    assert parse_source("file:a,b") == Files(("a", "b"))
    assert parse_source("kubernetes:x/a,y/b,x/c") == Pods({"x": frozenset("ac"), "y": frozenset("b")})


def test_requests_follow_the_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            first = await it.worker("d0")
            second = await it.worker("d1", listed=False)
            assert (await it.ask(chat())).headers["x-headrace-decode"] == "d0"
            await it.publish(second)
            assert (await it.ask(chat())).headers["x-headrace-decode"] == "d1"
            assert [len(first.seen), len(second.seen)] == [1, 1]

    run(main())


def test_prompts_with_a_common_beginning_meet_at_one_worker(tmp_path: Path) -> None:
    async def main() -> None:
        async with rig(tmp_path) as it:
            workers = [await it.worker(f"d{number}") for number in range(3)]
            prefills = [await it.worker(f"p{number}", "prefill") for number in range(2)]
            for worker in workers:
                worker.prefill = "p1"
            system = "You turn the wheel. " * 200
            served = {(await it.ask(chat(system + str(turn)))).headers["x-headrace-decode"] for turn in range(6)}
            assert len(served) == 1
            ranked = [one.headers["x-headrace-prefill-workers"].split(",") for worker in workers for one in worker.seen]
            assert [urls[0] for urls in ranked[1:]] == [prefills[1].url] * 5

    run(main())
