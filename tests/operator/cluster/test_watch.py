"""The cache follows a real API server through everything that ends a watch."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run

from headrace_api.names import LABEL_DEPLOYMENT
from headrace_operator.kubernetes.cache import Cache, Key
from headrace_operator.kubernetes.errors import GoneError, UnavailableError
from headrace_operator.kubernetes.kinds import CONFIG_MAPS, Kind
from headrace_operator.kubernetes.objects import Item
from headrace_operator.kubernetes.session import Session
from headrace_operator.kubernetes.watch import Watcher

SELECTOR = f"{LABEL_DEPLOYMENT}=chat"


class Flaky:
    """A session whose watches end early, in turn: at once, by an error, because the version is forgotten."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.faults: list[Exception | None] = []
        self.lists = 0
        self.watches: list[str] = []

    def pages(self, *arguments: Any) -> AsyncIterator[tuple[list[Item], str]]:
        self.lists += 1
        return self._session.pages(*arguments)

    async def watch(
        self, kind: Kind[Item], namespace: str, selector: str, version: str, *, lasting_s: float
    ) -> AsyncIterator[tuple[str, Item]]:
        self.watches.append(version)
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                raise fault
            return
        async for event in self._session.watch(kind, namespace, selector, version, lasting_s=lasting_s):
            yield event


@pytest.mark.processes
@pytest.mark.parametrize(
    ("faults", "lists"),
    [
        ([], 1),
        ([None, None], 1),
        ([UnavailableError("broken"), None], 1),
        ([GoneError("too old")], 2),
        ([UnavailableError("broken"), GoneError("too old"), None], 2),
    ],
    ids=["no fault", "closed", "broken", "forgotten", "all of them"],
)
def test_the_cache_ends_up_true_whatever_ends_a_watch(
    connect: Callable[..., Any], namespace: str, kubectl: Kubectl, faults: list[Exception | None], lists: int
) -> None:
    async def main() -> None:
        told: list[Key] = []
        cache = Cache(lambda key, *_: told.append(key))
        async with connect() as session:
            flaky = Flaky(session)
            flaky.faults = list(faults)
            kubectl("-n", namespace, "create", "configmap", "early")
            kubectl("-n", namespace, "label", "configmap", "early", SELECTOR)
            watcher = Watcher(flaky, cache, CONFIG_MAPS, namespace, SELECTOR)  # type: ignore[arg-type]  # a stand-in
            task = asyncio.create_task(watcher.run())
            await watcher.synced.wait()
            kubectl("-n", namespace, "delete", "configmap", "early")
            kubectl("-n", namespace, "create", "configmap", "late")
            kubectl("-n", namespace, "label", "configmap", "late", SELECTOR)

            await eventually(lambda: cache.get(CONFIG_MAPS, namespace, "late") is not None)
            await eventually(lambda: cache.get(CONFIG_MAPS, namespace, "early") is None)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        assert flaky.lists == lists
        assert set(told) == {Key("LLMDeployment", namespace, "chat")}

    run(main())


@pytest.mark.processes
def test_a_watch_resumes_where_the_last_one_ended(connect: Callable[..., Any], namespace: str) -> None:
    async def main() -> None:
        cache = Cache(lambda *_: None)
        async with connect() as session:
            flaky = Flaky(session)
            watcher = Watcher(flaky, cache, CONFIG_MAPS, namespace, SELECTOR)  # type: ignore[arg-type]  # a stand-in
            flaky.faults = [None, None]
            task = asyncio.create_task(watcher.run())
            await eventually(lambda: len(flaky.watches) == 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        assert flaky.lists == 1
        assert len(set(flaky.watches)) == 1

    run(main())
