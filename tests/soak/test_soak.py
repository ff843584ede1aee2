"""The soak in short, so that every run of the tests sees a worker of each role killed and stopped under load."""

import json

import pytest
from tests.soak.__main__ import tell
from tests.soak.run import soak


@pytest.mark.processes
def test_twenty_disturbed_seconds_cost_no_answer_and_leave_nothing_behind() -> None:
    verdict = soak(seed=7, seconds=20, tell=tell)
    assert verdict.passed, "\n".join([*verdict.faults, f"seed {verdict.seed}", verdict.last])
    blows = verdict.figures["blows"]
    assert min(blows[kind] for kind in ("cancel", "kill", "stop")) >= 1, json.dumps(verdict.figures)
    assert verdict.figures["answered"] > 0
