"""Ranks that do not come, come with something else, or go: what rank 0 says."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from headrace_worker.errors import RankError
from headrace_worker.parallel import ranks as module
from headrace_worker.parallel.ranks import Ranks

Start = Callable[[str], Ranks]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a worker of two ranks whose second does what is said."""
    with ExitStack() as stack:

        def start(what: str) -> Ranks:
            script = Path(__file__).with_name("fake_rank.py")
            ranks = Ranks(2, "{}", command=(sys.executable, str(script), what))
            stack.callback(ranks.close)
            return ranks

        yield start


def test_the_worker_has_the_blocks_of_its_smallest_rank(start: Start) -> None:
    assert start("fewer blocks").agree("a hash", 9) == 7


def test_a_rank_with_other_weights_is_refused_with_both_hashes(start: Start) -> None:
    with pytest.raises(RankError, match=r"rank 1 of 2 .*'another hash', rank 0 has 'a hash'; all ranks must read"):
        start("other weights").agree("a hash", 9)


def test_a_rank_that_gives_up_is_quoted(start: Start) -> None:
    with pytest.raises(RankError, match="rank 1 of 2 could not start: the file is not there") as raised:
        start("gives up").agree("a hash", 9)
    assert raised.value.permanent


def test_a_rank_that_dies_at_the_start_is_noticed_at_once(start: Start) -> None:
    with pytest.raises(RankError, match="rank 1 of 2 could not start: rank 1 has gone"):
        start("dies").agree("a hash", 9)


def test_a_rank_that_says_nothing_is_not_waited_for_without_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_S", 0.5)
    with pytest.raises(RankError, match=r"rank 1 of 2 could not start: rank 1 said nothing for 0.5 s"):
        start("waits").agree("a hash", 9)


MEETING = """
import logging, sys, threading
from headrace_worker.parallel.ranks import Ranks
logging.basicConfig(format="%(message)s")
ranks = Ranks(2, "{}", command=(sys.executable, *sys.argv[1:]))
ranks.load("127.0.0.1", 1, ranks.agree("a hash", 9))
with ranks.meeting():
    threading.Event().wait(100)
"""
"""Rank 0 as it waits in a call that nothing ends."""


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("dies while all meet", "it has ended by signal SIGKILL before all ranks had met"),
        ("gives up while all meet", "no interface leads there"),
    ],
)
def test_a_rank_that_ends_while_all_meet_ends_the_worker_long_before_torch_gives_up(what: str, sentence: str) -> None:
    script = str(Path(__file__).with_name("fake_rank.py"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", MEETING, script, what],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert f"rank 1 of 2 could not start: {sentence}" in done.stderr


def test_a_meeting_that_fails_by_itself_is_told_in_the_words_of_the_rank_that_gave_up(start: Start) -> None:
    ranks = start("gives up while all meet")
    ranks.load("127.0.0.1", 1, ranks.agree("a hash", 9))

    def meet() -> None:
        with ranks.meeting():
            for rank in ranks._ranks:
                rank.process.wait(30)
            raise RankError("the others did not come")

    with pytest.raises(RankError, match="rank 1 of 2 could not start: no interface"):
        meet()


def test_a_meeting_of_all_leaves_no_thread(start: Start) -> None:
    ranks = start("fewer blocks")
    with ranks.meeting():
        names = [thread.name for thread in threading.enumerate()]
    assert "meeting" in names
    assert "meeting" not in [thread.name for thread in threading.enumerate()]
