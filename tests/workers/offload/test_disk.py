"""Blocks on a real disk: they come back bit for bit, or not at all."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tests.workers.offload.conftest import StartDesk
from tests.workers.offload.rig import DEADLINE_S, Desk, MakeStorage, content, key, make_offload, until

from headrace_worker.errors import SettingsError, StuckError
from headrace_worker.offload.files import TRAILER_BYTES
from headrace_worker.offload.storage import NixlStorage, PlainStorage, Storage, pick

WAYS: list[MakeStorage] = [NixlStorage, lambda _address, _size: PlainStorage()]


def spill(desk: Desk, *numbers: int) -> None:
    """Have blocks on disk and nowhere else."""
    desk.evict(*numbers)
    desk.close()


def equal(found: list[torch.Tensor], numbers: tuple[int, ...]) -> bool:
    wanted = [content(number) for number in numbers]
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("make_storage", WAYS, ids=["nixl", "plain"])
def test_blocks_survive_a_restart_bit_for_bit(start_desk: StartDesk, make_storage: MakeStorage) -> None:
    numbers = (1, 2, 3, 4, 5, 6)
    spill(start_desk(make_storage=make_storage), *numbers)
    again = start_desk(make_storage=make_storage)
    until(lambda: again.known(*numbers) == len(numbers))
    assert equal(again.fetch(*numbers), numbers)
    assert (again.tiers.on_disk.hits, again.tiers.on_disk.corrupt) == (6, 0)


def test_what_memory_has_no_room_for_is_still_there_on_disk(desk: Desk) -> None:
    numbers = tuple(range(1, 33))
    for number in numbers:
        desk.evict(number)
        desk.settled()
    assert len(desk.tiers.memory) == 8
    for number in numbers:
        assert equal(desk.fetch(number), (number,))
        desk.settled()


def test_the_budget_of_the_disk_holds_and_the_oldest_files_go(start_desk: StartDesk) -> None:
    desk = start_desk(files=4)
    for number in range(1, 25):
        desk.evict(number)
        desk.settled()
        assert len(desk.files()) <= 4
    newest = desk.tiers.memory.oldest()
    assert desk.tiers.known([next(newest)]) == 1
    assert desk.known(1) == 0


def _flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        byte = file.read(1)
        file.seek(100)
        file.write(bytes([byte[0] ^ 1]))


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - TRAILER_BYTES - 5)


def _clear(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _exchange(path: Path) -> None:
    """Put another block's whole file under this name."""
    other = next(one for one in path.parent.parent.rglob("*.kv") if one != path)
    path.write_bytes(other.read_bytes())


DAMAGES: list[Callable[[Path], None]] = [_flip, _cut, _clear, _exchange, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("make_storage", WAYS, ids=["nixl", "plain"])
def test_a_damaged_file_is_never_loaded(
    start_desk: StartDesk, damage: Callable[[Path], None], make_storage: MakeStorage
) -> None:
    numbers = (1, 2, 3)
    spill(start_desk(make_storage=make_storage), *numbers)
    again = start_desk(make_storage=make_storage)
    until(lambda: again.known(*numbers) == 3)
    damage(next(path for path in again.files() if path.stem == key(2).hex()))
    assert equal(again.fetch(*numbers), (1,)), "what precedes the damage is loaded, and nothing else"
    assert again.tiers.on_disk.corrupt == 1
    until(lambda: again.known() == 0 and len(again.files()) == 2)
    assert again.known(2) == 0


def test_a_file_that_was_cut_while_nobody_looked_is_deleted_at_the_start(start_desk: StartDesk) -> None:
    first = start_desk()
    spill(first, 1, 2)
    _cut(first.files()[0])
    again = start_desk()
    until(lambda: again.known(2) == 1)
    assert again.known(1) == 0
    assert len(again.files()) == 1


def test_blocks_of_another_model_are_deleted_and_what_is_not_ours_stays(start_desk: StartDesk, tmp_path: Path) -> None:
    other = tmp_path / "worker" / bytes(16).hex() / "00"
    other.mkdir(parents=True)
    (other / f"{key(1).hex()}.kv").write_bytes(b"x" * 100)
    (tmp_path / "worker" / "notes").mkdir()
    desk = start_desk()
    until(lambda: not other.exists())
    assert (tmp_path / "worker" / "notes").exists()
    assert desk.known(1) == 0


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: to a writer the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("limit", [0, 1000])
@pytest.mark.parametrize("make_storage", WAYS, ids=["nixl", "plain"])
def test_a_full_disk_leaves_memory_as_it_was_and_no_torn_file(
    start_desk: StartDesk, limit: int, make_storage: MakeStorage
) -> None:
    desk = start_desk(make_storage=make_storage)
    with file_size_limit(limit):
        for number in range(1, 9):
            desk.evict(number)
        until(lambda: bool(desk.known() == 0 and desk.tiers.on_disk.failed))
    assert not desk.files()
    assert not list(desk.folder.rglob("*.part"))
    assert all(equal(desk.fetch(number), (number,)) for number in range(1, 9))


def _write_on(folder: Path, started: "multiprocessing.synchronize.Event") -> None:
    """Write blocks without an end, over and over, until somebody kills this process."""
    desk = Desk(folder, slots=8, files=10_000)
    number = 0
    while True:
        number += 1
        desk.evict(number)
        desk.settled()
        if number == 30:
            started.set()


@pytest.mark.parametrize("turn", range(2))
def test_a_process_killed_while_it_writes_leaves_whole_blocks_or_none(
    start_desk: StartDesk, tmp_path: Path, turn: int
) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    writer = context.Process(target=_write_on, args=(tmp_path, started), daemon=True)
    writer.start()
    assert started.wait(DEADLINE_S)
    before = len(list(tmp_path.rglob("*.kv")))
    until(lambda: len(list(tmp_path.rglob("*.kv"))) >= before + turn)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(DEADLINE_S)
    desk = start_desk(files=10_000)
    numbers = sorted(int(path.stem, 16) for path in desk.files())
    until(lambda: desk.known(numbers[0]) == 1)
    assert all(equal(desk.fetch(number), (number,)) for number in numbers)
    assert desk.tiers.on_disk.corrupt == 0
    assert not list(tmp_path.rglob("*.part"))


def test_one_folder_serves_one_process(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace_worker.offload.folder._LOCK_S", 0.1)
    with pytest.raises(SettingsError, match="another process keeps its KV blocks"):
        Desk(desk.folder)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"offload_path '.*file' cannot be used: Not a directory; name a folder"):
        make_offload(torch.zeros(1, 1, 1, 1, 1, 1), slots=1, folder=tmp_path / "file", files=1)


def test_plain_calls_are_taken_where_nixl_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = torch.zeros(4096, dtype=torch.uint8)
    assert pick(memory.data_ptr(), memory.nbytes, tmp_path).name == "nixl"
    with file_size_limit(10):
        assert pick(memory.data_ptr(), memory.nbytes, tmp_path).name == "plain"
    monkeypatch.setitem(sys.modules, "nixl._bindings", None)
    assert pick(memory.data_ptr(), memory.nbytes, tmp_path).name == "plain"
    assert not list(tmp_path.iterdir())


class Stuck(PlainStorage):
    """A disk that stops to answer."""

    def read(self, pieces: object) -> None:  # noqa: ARG002
        raise StuckError("the disk does not answer")


def test_a_disk_that_hangs_keeps_its_slots_and_its_prompts_go_on(start_desk: StartDesk) -> None:
    spill(start_desk(), 1, 2)

    def make(_address: int, _size: int) -> Storage:
        return Stuck()

    desk = start_desk(make_storage=make)
    until(lambda: desk.known(1, 2) == 2)
    keys = [key(1), key(2)]
    assert desk.tiers.look(1, keys) is None
    desk.offload.flush()
    deadline = desk.offload.deadline()
    assert deadline is not None
    assert desk.offload.poll(deadline - 1) == []
    assert desk.offload.poll(deadline) == [1]
    assert desk.tiers.look(1, keys) == 0
    assert desk.tiers.memory.num_filling == 2, "what may still be written is never used again"
