"""The number of workers follows the load by the raw signals too, read from the operator or from a real Prometheus."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.cluster.home import user_home
from e2e.prometheus.image import ensure_prometheus_image
from e2e.prometheus.objects import NAME as PROMETHEUS
from e2e.prometheus.objects import address, objects
from e2e.scenarios.elastic import follows_the_load
from e2e.scenarios.world import tell

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

pytestmark = pytest.mark.usefixtures("operator", "keda")


def test_load_raises_and_silence_lowers_a_pool_by_what_the_operator_has_read(world: World, space: Space) -> None:
    says = "KEDA scales by the load that the operator reads"
    follows_the_load(world, space, {"trigger": "metrics-api"}, says=says)


def test_load_raises_and_silence_lowers_a_pool_by_what_prometheus_has_read(world: World, space: Space) -> None:
    image = ensure_prometheus_image(user_home(os.environ, Path.home()), world.cluster.engine(), tell)
    world.cluster.load(image)
    space.apply(*objects(image, world.images.router))
    space.run("wait", f"pod/{PROMETHEUS}", "--for=condition=Ready", "--timeout=60s", timeout_s=70)

    trigger = {"trigger": "prometheus", "prometheus": {"address": address(space.name)}}
    follows_the_load(world, space, trigger, says=f"KEDA scales by what Prometheus at {address(space.name)} says")
