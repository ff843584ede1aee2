import pytest

from headrace_api.names import BLOCK_STATES
from headrace_api.sampling import Sampling
from headrace_worker.engine.blocks import BlockPool
from headrace_worker.engine.report import INTERVAL_S, Report
from headrace_worker.engine.requests import Requests
from headrace_worker.engine.scheduler import Scheduler
from headrace_worker.engine.sequence import Sequence
from headrace_worker.messages import Choice, Generate


@pytest.fixture
def scheduler() -> Scheduler:
    scheduler = Scheduler(BlockPool(8, 4), max_running=1, chunk_tokens=16)
    for size in (4, 5, 6):
        scheduler.add(Sequence(f"r{size}", 0, (1,) * size, Sampling(max_tokens=3), 32))
    scheduler.schedule()
    return scheduler


def test_a_report_counts_what_runs_waits_and_is_elsewhere(scheduler: Scheduler) -> None:
    stats = Report().stats(scheduler, 2, 0.0)
    assert (stats.running, stats.waiting, stats.waiting_prompt_tokens, stats.remote) == (1, 4, 11, 2)
    assert tuple(stats.blocks) == BLOCK_STATES
    assert sum(stats.blocks.values()) == 8


def test_counters_go_on_and_durations_begin_anew_after_each_report(scheduler: Scheduler) -> None:
    report = Report()
    report.add("generated", 3)
    report.step_s.append(0.5)
    first = report.stats(scheduler, 0, 0.0)
    report.add("generated")
    second = report.stats(scheduler, 0, 1.0)
    assert (first.counters["generated"], second.counters["generated"]) == (3, 4)
    assert (first.step_s, second.step_s) == ((0.5,), ())


def test_the_next_report_is_due_an_interval_later_and_only_after_a_change(scheduler: Scheduler) -> None:
    report = Report()
    report.stats(scheduler, 0, 5.0)
    assert report.due == 5.0 + INTERVAL_S
    assert not report.changed
    report.add("preemptions", 0)
    assert report.changed


def test_an_unknown_counter_is_our_own_bug() -> None:
    with pytest.raises(KeyError):
        Report().add("unheard_of")


# --- requests --------------------------------------------------------------------------------------------------------


def opened(requests: Requests, *indexes: int) -> list[Sequence]:
    """Open a request with these choices; return their sequences."""
    choices = tuple(Choice(index, (7,) * index) for index in indexes)
    message = Generate(request="r", prompt_ids=(1, 2), sampling=Sampling(max_tokens=9), choices=choices, salt="s")
    return list(requests.open(message, 32).sequences.values())


def test_each_choice_has_a_sequence_of_its_own_tokens() -> None:
    sequences = opened(Requests(), 0, 2)
    assert [(sequence.choice, sequence.output_ids, sequence.salt) for sequence in sequences] == [
        (0, [], "s"),
        (2, [7, 7], "s"),
    ]


def test_followers_are_released_once() -> None:
    requests = Requests()
    _, second, third = opened(requests, 0, 1, 2)
    assert requests.release_followers("r") == [second, third]
    assert requests.release_followers("r") == []
    assert requests.release_followers("unknown") == []


def test_a_closed_choice_is_no_follower_any_more() -> None:
    requests = Requests()
    _, second, third = opened(requests, 0, 1, 2)
    assert requests.close_choice("r", 1) is second
    assert requests.release_followers("r") == [third]
    assert requests.close_choice("r", 1) is None


def test_a_request_is_forgotten_with_its_last_choice() -> None:
    requests = Requests()
    opened(requests, 0, 1)
    requests.close_choice("r", 0)
    assert len(requests) == 1
    requests.close_choice("r", 1)
    assert len(requests) == 0
    assert requests.get("r") is None
    assert requests.close_choice("r", 0) is None


def test_a_closed_request_returns_what_it_still_had() -> None:
    requests = Requests()
    first, second = opened(requests, 0, 1)
    requests.close_choice("r", 0)
    assert requests.close("r") == [second]
    assert requests.close("r") == []
    assert first not in requests.close("r")
