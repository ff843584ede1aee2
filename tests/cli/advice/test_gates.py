"""The targets of a gate's file as settings, and what a GPU-second costs by the lines of unused time."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.cli.advice.ledgers import facts, idle
from tests.router.cascade.ladder import gate_file

from headrace_cli.advice.gates import settings_of
from headrace_cli.advice.rates import per_second
from headrace_cli.errors import UsageError
from headrace_router.cost.facts import Unused


def with_thresholds(folder: Path, prefix: Sequence[tuple[float, float]], whole: Sequence[tuple[float, float]]) -> Path:
    path = gate_file(folder)
    told: dict[str, Any] = json.loads(path.read_text())
    for stage, known in (("prefix", prefix), ("whole", whole)):
        rows = [{"target": target, "gain": gain, "calls": 0.5, "rows": 100} for target, gain in known]
        told[stage] = told[stage] | {"thresholds": rows}
    path.write_text(json.dumps(told))
    return path


def test_a_target_has_a_threshold_for_first_tokens_and_one_for_whole_answers(tmp_path: Path) -> None:
    path = with_thresholds(tmp_path, [(0.8, 0.4), (0.9, 0.2)], [(0.8, 0.3), (0.9, 0.1)])
    found = settings_of(path)
    assert [(one.name, one.is_own) for one in found] == [
        ("target 0.8", True),
        ("target 0.85", False),
        ("target 0.9", True),
    ]
    assert [one.prefix for one in found] == pytest.approx([0.4, 0.3, 0.2]), "between two as a router interpolates"
    assert [one.whole for one in found] == pytest.approx([0.3, 0.2, 0.1])


def test_a_target_that_one_of_the_stages_does_not_know_is_left_out(tmp_path: Path) -> None:
    path = with_thresholds(tmp_path, [(0.8, 0.4), (0.95, 0.2)], [(0.9, 0.3), (1.0, 0.1)])
    assert [one.name for one in settings_of(path)] == [
        f"target {target:g}" for target in (0.9, 0.91, 0.92, 0.93, 0.94, 0.95)
    ]


def test_a_gate_without_a_target_for_both_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no target that it knows for first tokens and for whole answers"):
        settings_of(with_thresholds(tmp_path, [(0.5, 0.4)], [(0.9, 0.3)]))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(UsageError, match="no model file"):
        settings_of(broken)


def test_a_gpu_second_costs_what_unused_ones_cost_and_tiers_by_token_have_none() -> None:
    token = Unused("other", "large", "decode", "idle", 0, 60.0, 0)
    found = facts(unused=(*idle("prefill", [100.0, 50.0], rate=3), *idle("decode", [10.0], rate=3), token))
    assert per_second(found) == {"small": 3.0}
    assert per_second(facts()) == {}
