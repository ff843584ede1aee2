"""What `make bench-cascade` adds to the commands: halves that keep subjects whole, and what choosing costs."""

import csv
import random
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the extra `cascade` is not installed")

from benchmarks.cascade.costs import Costs, measured
from benchmarks.cascade.difficulty import halves, line, summary


def written(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_halves_keep_subjects_whole_and_lose_no_prompt(tmp_path: Path) -> None:
    generator = random.Random(1)
    subjects = [{"subject": f"s{generator.randrange(8)}", "prompt": f"a\n{number}"} for number in range(100)]
    open_ones = [{"prompt": f"b {number}"} for number in range(21)]
    paths = [written(tmp_path / "open.csv", open_ones), written(tmp_path / "subjects.csv", subjects)]
    first, second = (list(map(read, half)) for half in halves(paths, tmp_path, seed=3))
    assert {row["subject"] for row in first[1]}.isdisjoint(row["subject"] for row in second[1])
    assert len({row["subject"] for row in first[1]}) == 4
    for place, rows in enumerate((open_ones, subjects)):
        assert sorted(row["prompt"] for row in first[place] + second[place]) == sorted(row["prompt"] for row in rows)
    assert [len(half[0]) for half in (first, second)] == [10, 11]


def test_equal_seeds_part_alike_and_others_otherwise(tmp_path: Path) -> None:
    path = written(tmp_path / "open.csv", [{"prompt": str(number)} for number in range(50)])
    parts = []
    for place, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(place)
        folder.mkdir()
        parts.append(read(halves([path], folder, seed)[0][0]))
    assert parts[0] == parts[1] != parts[2]


def test_chance_at_equal_cost_asks_the_strong_tier_more_often_than_a_gate() -> None:
    """The gate pays the weak tier for every prompt, chance only for those that it leaves to it."""
    costs = Costs(0.2)
    assert costs.of_gate(0.4) == pytest.approx(0.6)
    assert costs.random_calls(0.6) == pytest.approx(0.5)
    assert costs.of_choice(costs.random_calls(0.6)) == pytest.approx(0.6)
    assert costs.random_calls(costs.of_gate(0.0)) == 0
    assert costs.random_calls(costs.of_gate(0.9)) == 1


def test_costs_are_seconds_at_the_price_of_an_hour() -> None:
    answers = {"small": [{"seconds": 1.0}, {"seconds": 3.0}], "large": [{"seconds": 4.0}, {"seconds": 4.0}]}
    assert measured(answers, {"small": 0.5, "large": 2.0}, "small", "large") == Costs(0.125)


def test_a_summary_counts_the_lower_bounds_that_hold() -> None:
    def half(apgr: float, low: float, ahead: float) -> dict[str, object]:
        levels = {"0.5": 0.25, "0.8": 0.5, "0.95": 0.8}
        return {
            "rows": 100,
            "apgr": apgr,
            "length_apgr": 0.6,
            "apgr_above_length": apgr - 0.6,
            "calls_at": levels,
            "saving_at": dict.fromkeys(levels, 2.0),
            "intervals": {"apgr": [low, 0.9], "apgr_above_length": [ahead, 0.3]},
        }

    parts = [half(0.7, 0.65, 0.05), half(0.65, 0.55, 0.01), half(0.55, 0.45, -0.1)]
    told = summary(parts)
    assert "3 halves: APGR 0.633 on average, 0.550 to 0.700; prompt length 0.600" in told
    assert "2 are above 0.5, 1 above prompt length's APGR, and 2 of those of the lead over it above 0" in told
    assert "100 prompts, APGR 0.700 (0.650 to 0.900)" in line("all", parts[0])
    assert "50% of the gap 25.0% 2.00x" in line("all", parts[0])
