"""Operators that end: another one goes on, and nobody else notices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from e2e.scenarios.install import leader, scale_operator, wait_leader
from e2e.scenarios.space import wait_for
from e2e.scenarios.traffic import ask, problems, start
from e2e.scenarios.world import manifest, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

NAME = "steady"


@pytest.fixture
def two_operators(operator: Space) -> Iterator[Space]:
    """A second operator that waits for the lead."""
    scale_operator(operator, 2)
    yield operator
    scale_operator(operator, 1)


def test_another_operator_takes_the_lead_and_finishes_what_was_begun(
    world: World, two_operators: Space, space: Space
) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    workers = {pod["metadata"]["uid"] for pod in space.pods(NAME)}
    client = start(space, world.images.router, NAME, concurrency=2, tokens=32, seconds=400)
    client.wait_answers(2, timeout_s=120)

    old = leader(two_operators)
    assert old
    pod = next(one["metadata"]["name"] for one in two_operators.listed("pods") if one["metadata"]["name"] in old)
    two_operators.run("delete", "pod", pod, "--grace-period=0", "--force")
    new = wait_leader(two_operators, other_than=old, timeout_s=60)
    tell(f"{new} leads after {old}")
    space.patch(NAME, {"spec": {"decode": {"replicas": 2}}})
    space.wait_ready(NAME, timeout_s=240)
    client.stop()
    answers = client.end(timeout_s=120)

    assert problems(answers) == []
    assert len(space.pods(NAME, "decode")) == 2
    assert workers <= {pod["metadata"]["uid"] for pod in space.pods(NAME)}, "a change of the lead replaced workers"


@pytest.mark.usefixtures("operator")
def test_what_others_change_is_set_right_and_their_own_fields_stay(world: World, space: Space) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    before = space.find("service", NAME)
    assert before is not None

    selector = {"app.kubernetes.io/name": "somebody-elses"}
    change = {"metadata": {"annotations": {"example.com/owner": "search"}}, "spec": {"selector": selector}}
    space.run("patch", "service", NAME, "--type=merge", "--patch", json.dumps(change))
    space.run("delete", "poddisruptionbudget", "--all")

    def is_right() -> bool:
        found = space.find("service", NAME)
        assert found is not None
        budgets = {one["metadata"]["name"] for one in space.listed("poddisruptionbudgets")}
        return found["spec"]["selector"] == before["spec"]["selector"] and f"{NAME}-decode" in budgets

    wait_for(is_right, 60, "What was changed by hand was not set right")
    after = space.find("service", NAME)
    assert after is not None
    assert after["metadata"]["annotations"]["example.com/owner"] == "search"
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    assert problems(ask(space, world.images.router, NAME, timeout_s=120, count=1)) == []
