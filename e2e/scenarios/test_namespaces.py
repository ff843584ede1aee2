"""An operator that may see one namespace only; a namespace that goes while workers change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from e2e.scenarios.install import install_operator, namespace_object, remove_operator
from e2e.scenarios.space import DEPLOYMENT, Space, wait_for
from e2e.scenarios.traffic import ask, problems
from e2e.scenarios.world import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2e.scenarios.world import World

NAME = "bounded"
OPERATORS = "e2e-namespaced"
DEFINITIONS: Final = Path(__file__).parents[2] / "crds"


@pytest.fixture
def bounded(bare: None, world: World, space: Space) -> Iterator[Space]:  # noqa: ARG001 - before and after all else
    """A namespace with an operator that has rights in it and nowhere else, and no other operator."""
    world.kubectl.define(DEFINITIONS.glob("*.yaml"), timeout_s=60)  # by an administrator: the release has no such right
    installed = install_operator(world.kubectl, world.helm, world.chart, namespace=OPERATORS, watched=space.name)
    yield space
    space.delete(DEPLOYMENT, "--all")
    remove_operator(world.helm, installed)


def test_an_operator_of_one_namespace_serves_it_and_leaves_others_alone(world: World, bounded: Space) -> None:
    other = Space(world.kubectl, f"{bounded.name}-other")
    world.kubectl.apply([namespace_object(other.name)])
    other.apply(manifest(NAME))
    bounded.apply(manifest(NAME))
    bounded.wait_ready(NAME, timeout_s=300)

    assert problems(ask(bounded, world.images.router, NAME, timeout_s=120, count=1)) == []
    untouched = other.find(DEPLOYMENT, NAME)
    assert untouched is not None
    assert "status" not in untouched
    assert other.pods(NAME) == []
    world.kubectl("delete", "namespace", other.name, "--timeout=60s", timeout_s=70)


@pytest.mark.usefixtures("operator")
def test_a_namespace_goes_in_mid_rollout_and_other_namespaces_are_served(world: World, space: Space) -> None:
    doomed = Space(world.kubectl, f"{space.name}-doomed")
    world.kubectl.apply([namespace_object(doomed.name)])
    doomed.apply(manifest(NAME))
    doomed.wait_ready(NAME, timeout_s=300)
    doomed.patch(NAME, {"spec": {"engine": {"chunkTokens": 64}}})
    wait_for(lambda: len(doomed.pods(NAME)) > 2, 60, "The rollout did not begin")

    doomed.kubectl("delete", "namespace", doomed.name, "--wait=false")
    wait_for(lambda: doomed.find("namespace", doomed.name) is None, 180, f"The namespace {doomed.name} is still there")

    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=240)
