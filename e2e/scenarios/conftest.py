"""What all scenarios share: one cluster with the operator in it, and a namespace for each of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.cluster.home import user_home
from e2e.keda.install import install_keda, remove_keda
from e2e.keda.objects import NAMESPACE as KEDA
from e2e.scenarios import verdict
from e2e.scenarios.install import NAMESPACE, install_operator, remove_operator, remove_resources
from e2e.scenarios.space import Space
from e2e.scenarios.world import World, opened, tell

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A cluster with this working tree's images; one that runs already is used, and stays."""
    with opened(tmp_path_factory.mktemp("helm")) as world:
        yield world


@pytest.fixture(scope="session")
def operator(world: World) -> Iterator[Space]:
    """The operator for all namespaces: the namespace that it runs in."""
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))  # of a run that was killed
    space = install_operator(world.kubectl, world.helm, world.chart)
    tell("the operator is ready")
    yield space
    remove_operator(world.helm, space)


@pytest.fixture
def bare(world: World) -> Iterator[None]:
    """A cluster that has neither a release nor our custom resources, before and after."""
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))
    remove_resources(world.kubectl)
    yield
    remove_operator(world.helm, Space(world.kubectl, NAMESPACE))
    remove_resources(world.kubectl)


@pytest.fixture
def space(world: World, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace for one scenario; what it held is told when the scenario fails."""
    name = f"e2e-{request.node.name.removeprefix('test_').replace('_', '-')[:40].strip('-')}"
    with world.namespace(name) as space:
        yield space
        if verdict.has_failed(request.node):
            tell(f"what {name} looked like:\n{space.report()}")
            tell(f"what the operator said:\n{Space(world.kubectl, NAMESPACE).report()}")


@pytest.fixture(scope="module")
def keda_installed(world: World, operator: Space) -> Iterator[None]:  # noqa: ARG001 - the operator sees KEDA come
    """KEDA, for the rest of a file: scenarios without it stand before those that need it."""
    remove_keda(world.cluster)  # of a run that was killed
    install_keda(user_home(os.environ, Path.home()), world.cluster, tell)
    yield
    remove_keda(world.cluster)


@pytest.fixture
def keda(
    keda_installed: None,  # noqa: ARG001 - once for all
    world: World,
    space: Space,
    request: pytest.FixtureRequest,
) -> Iterator[None]:
    """KEDA; what it said is told when the scenario fails."""
    yield
    if verdict.has_failed(request.node):
        tell(f"what KEDA said:\n{Space(world.kubectl, KEDA).report('keda')}")
        tell(space.run("get", "scaledobjects,hpa", "-o", "yaml")[-20_000:])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have the scenarios that install a release of their own run before the one that the others share is there."""
    items.sort(key=lambda item: "operator" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note failures, for the fixture that tells what a scenario left, and tell how long each scenario took."""
    report: pytest.TestReport = yield  # type: ignore[assignment]  # pluggy's generators are untyped
    if report.when == "call":
        verdict.note(item, failed=report.failed)
        tell(f"{item.name}: {report.outcome} after {report.duration:.1f} s")
    return report  # type: ignore[return-value]  # likewise
