"""What a cache saved, and the bound on what a larger one would save."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.cli.advice.ledgers import facts, used

from headrace_cli.advice.cache import bound, cache
from headrace_cli.advice.piece import Money, Share
from headrace_cli.advice.trace import Repeats, read_trace
from headrace_cli.errors import UsageError

REPEATS = Repeats("trace.jsonl", 1000, 1_000_000, 600_000)


def write(path: Path, requests: Sequence[tuple[int, list[int] | None]]) -> Path:
    rows = [{"timestamp": 0, "input_length": tokens, "output_length": 1, "hash_ids": ids} for tokens, ids in requests]
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows))
    return path


def test_by_token_a_token_more_saves_what_cached_ones_saved() -> None:
    own = [used(500, 100_000, 20_000, cost=90_000, saving=10_000)]
    assert bound(own, {}, 0.6) == 40_000 * 10_000 // 20_000
    (found,) = cache(facts(used=tuple(own)), {}, REPEATS, given=True).advice
    assert (found.saving, found.interval, found.requests) == (20_000, None, 500)
    assert "20.0% of 100000 prompt tokens" in found.now
    assert "60.0% repeat" in found.instead


def test_by_the_hour_a_token_more_saves_what_one_costs_to_compute() -> None:
    own = [used(500, 100_000, 20_000, cost=200_000, prefill_s=80.0, decode_s=20.0)]
    assert bound(own, {"small": 2000.0}, 0.6) == 40_000 * 2000 * 80 // 80_000


def test_a_cache_that_holds_all_that_repeats_is_left_as_it_is() -> None:
    part = cache(facts(used=(used(500, 100_000, 61_000, cost=90_000, saving=10_000),)), {}, REPEATS, given=True)
    assert not part.advice
    assert "61.0% of prompt tokens came out of a cache; 60.0%" in part.notes[0]


def test_without_a_trace_nothing_is_advised_and_the_saving_so_far_is_shown() -> None:
    part = cache(facts(used=(used(500, 1000, 250, cost=9000, saving=77),)), {}, None, given=False)
    assert not part.advice
    assert "No trace was given" in part.notes[0]
    assert part.rows[0]["saved by it"] == Money(77)
    assert part.rows[0]["cached"] == Share(0.25)
    assert "no hash_ids" in cache(facts(), {}, None, given=True).notes[0]


def test_where_nothing_was_cached_the_ledger_does_not_tell_the_price_of_it() -> None:
    part = cache(facts(used=(used(500, 1000, 0, cost=9000),)), {}, REPEATS, given=True)
    assert "does not tell what one saves" in part.notes[0]


@pytest.mark.parametrize(("requests", "traced"), [(150, 1000), (1000, 150)])
def test_few_requests_on_either_side_are_told(requests: int, traced: int) -> None:
    part = cache(
        facts(used=(used(requests, 1000, 100, cost=9000, saving=100),)),
        {},
        Repeats("t", traced, 1000, 900),
        given=True,
    )
    assert not part.advice
    assert f"{requests} requests in the ledger and {traced} in the trace" in part.notes[0]


def test_a_trace_repeats_what_begins_as_an_earlier_prompt(tmp_path: Path) -> None:
    requests = [(1024, [1, 2]), (1500, [1, 2, 3]), (600, [4, 2]), (700, [1, 2]), (0, [])]
    found = read_trace(write(tmp_path / "t.jsonl", [*requests]))
    assert found == Repeats("t.jsonl", 5, 1024 + 1500 + 600 + 700, 1024 + 0 + 700)


def test_a_trace_without_hashes_says_nothing_of_repeats(tmp_path: Path) -> None:
    assert read_trace(write(tmp_path / "t.jsonl", [(1024, None)])) is None
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.97,4808,10\n")
    assert read_trace(tmp_path / "t.csv") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"input_length": 1024, "hash_ids": [1]}', "line 1 is no request of a trace: it has 1 hash_ids for 1024"),
        ('{"hash_ids": [1]}', "input_length"),
        ("nonsense", "line 1"),
    ],
)
def test_what_is_no_trace_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f"{text}\n")
    with pytest.raises(UsageError, match=said):
        read_trace(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_trace(tmp_path / "none.jsonl")
