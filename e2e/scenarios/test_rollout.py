"""A new revision under load: no request may notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from e2e.scenarios.space import DEPLOYMENT, wait_for
from e2e.scenarios.traffic import problems, start
from e2e.scenarios.world import manifest, tell

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

NAME = "rolling"


pytestmark = pytest.mark.usefixtures("operator")


def test_a_new_revision_under_load_fails_no_request(world: World, space: Space) -> None:
    space.apply(manifest(NAME))
    space.wait_ready(NAME, timeout_s=300)
    before = {pod["metadata"]["name"] for pod in space.pods(NAME)}
    revision = revisions(space)
    client = start(space, world.images.router, NAME, concurrency=3, tokens=48, seconds=600)
    client.wait_answers(3, timeout_s=120)

    space.patch(NAME, {"spec": {"engine": {"chunkTokens": 128}}})
    space.wait_ready(NAME, timeout_s=400)
    tell("the new revision is Ready")
    wait_for(lambda: not before & live_pods(space), 200, "Workers of the old revision are still there")
    seen = len(client.answers())
    client.wait_answers(seen + 6, timeout_s=120)
    client.stop()
    answers = client.end(timeout_s=200)

    tell(f"{len(answers)} requests were answered while the revision changed")
    assert problems(answers) == []
    after = {pod["metadata"]["name"] for pod in space.pods(NAME)}
    assert not before & after
    assert revisions(space)["decode"] != revision["decode"]
    assert {answer.decode for answer in answers} & before
    assert {answer.decode for answer in answers} & after


def live_pods(space: Space) -> set[str]:
    """Return the names of all worker pods, those on their way out too."""
    listed = space.listed("pods", f"serving.headrace.dev/deployment={NAME},serving.headrace.dev/role")
    return {pod["metadata"]["name"] for pod in listed}


def revisions(space: Space) -> dict[str, str]:
    """Return the revision of each role, as the status tells it."""
    found = space.find(DEPLOYMENT, NAME)
    assert found is not None
    told: dict[str, str] = found["status"]["revision"]
    return told
