"""Ranks that do not come, come with something else, or go: what rank 0 says."""

import sys
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
