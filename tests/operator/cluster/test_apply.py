"""Objects are made and kept as they should be, with the fewest calls, and nothing of others is taken."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run

from headrace_api.names import LABEL_DEPLOYMENT, LABEL_MANAGED_BY, MANAGER
from headrace_operator.kubernetes.apply import Applier, Wanted
from headrace_operator.kubernetes.cache import Cache
from headrace_operator.kubernetes.errors import ForeignError
from headrace_operator.kubernetes.kinds import CONFIG_MAPS, SERVICE_ACCOUNTS, SERVICES
from headrace_operator.kubernetes.objects import Item, Metadata
from headrace_operator.kubernetes.session import Session, encode
from headrace_operator.kubernetes.watch import Watcher

pytestmark = pytest.mark.processes


class Bench:
    """An applier with its cache and watches, and an owner; `calls` are the writes it has made."""

    def __init__(self, session: Session, namespace: str, owner_uid: str) -> None:
        self.session = session
        self.namespace = namespace
        self.owner_uid = owner_uid
        self.cache = Cache(lambda *_: None)
        self.applier = Applier(session, self.cache)

    def manifest(self, name: str = "one", kind: str = "ConfigMap", owner: str | None = None, **content: Any) -> Any:
        whose = "owner" if owner is None else "other"
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": whose, "uid": owner or self.owner_uid}
        return {
            "apiVersion": "v1",
            "kind": kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {LABEL_MANAGED_BY: MANAGER, LABEL_DEPLOYMENT: "chat"},
                "ownerReferences": [{**reference, "controller": True}],
            },
            **content,
        }

    async def ensure(self, manifest: Any, owner: str | None = None) -> bool:
        return await self.applier.ensure(Wanted.of(manifest), owner or self.owner_uid)

    async def data(self, name: str = "one") -> Any:
        return (await self.session.read_whole(CONFIG_MAPS, self.namespace, name)).get("data")


@pytest.fixture
def bench(connect: Callable[..., Any], namespace: str) -> Callable[..., Any]:
    @asynccontextmanager
    async def start(calls: list[str] | None = None) -> AsyncIterator[Bench]:
        def count(verb: str, kind: str, status: int, seconds: float) -> None:
            del status, seconds
            if calls is not None and verb not in {"watch", "list"}:
                calls.append(f"{verb} {kind}")

        async with connect() as plain:
            owner = await plain.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "owner"}}))
        async with connect(count=count) as session:
            made = Bench(session, namespace, owner.metadata.uid)
            watchers = [
                Watcher(session, made.cache, kind, namespace, f"{LABEL_MANAGED_BY}={MANAGER}")
                for kind in (CONFIG_MAPS, SERVICE_ACCOUNTS, SERVICES)
            ]
            tasks = [asyncio.create_task(watcher.run()) for watcher in watchers]
            for watcher in watchers:
                await watcher.synced.wait()
            yield made
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return start


def test_one_call_makes_an_object_and_none_keeps_it(bench: Callable[..., Any]) -> None:
    async def main() -> None:
        calls: list[str] = []
        async with bench(calls) as it:
            manifest = it.manifest(data={"a": "1"})
            made = [await it.ensure(manifest) for _ in range(3)]
            changed = await it.ensure(it.manifest(data={"a": "2"}))

            assert (made, changed) == ([True, False, False], True)
            assert calls == ["apply configmaps", "apply configmaps"]
            assert await it.data() == {"a": "2"}

    run(main())


def test_a_field_that_was_changed_or_removed_comes_back_and_fields_of_others_cause_no_call(
    bench: Callable[..., Any], kubectl: Kubectl
) -> None:
    async def main() -> None:
        calls: list[str] = []
        async with bench(calls) as it:
            manifest = it.manifest(data={"a": "1", "b": "2"})
            await it.ensure(manifest)

            def patch(text: str) -> None:
                kubectl("-n", it.namespace, "patch", "configmap", "one", "-p", text)

            async def seen(version: int) -> None:
                await eventually(lambda: it.cache.get(CONFIG_MAPS, it.namespace, "one").metadata.version > version)

            for theirs, ours in (
                ('{"data":{"theirs":"x"},"metadata":{"labels":{"team":"y"}}}', False),
                ('{"data":{"a":"changed"}}', True),
                ('{"data":{"b":null}}', True),
            ):
                before = it.cache.get(CONFIG_MAPS, it.namespace, "one").metadata.version
                patch(theirs)
                await seen(before)
                calls.clear()
                assert await it.ensure(manifest) is ours
                assert calls == (["apply configmaps"] if ours else [])
            assert await it.data() == {"a": "1", "b": "2", "theirs": "x"}

    run(main())


def test_a_port_that_somebody_moved_comes_back(bench: Callable[..., Any], kubectl: Kubectl) -> None:
    async def main() -> None:
        async with bench() as made:
            port = {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}
            service = made.manifest(kind="Service", spec={"ports": [port], "selector": {"a": "b"}})
            await made.ensure(service)
            change = '[{"op": "replace", "path": "/spec/ports/0/port", "value": 81}]'
            kubectl("-n", made.namespace, "patch", "service", "one", "--type=json", "-p", change)
            await eventually(lambda: not made.applier.is_fresh(Wanted.of(service)))

            await made.ensure(service)

            found = await made.session.read_whole(SERVICES, made.namespace, "one")
            assert found["spec"]["ports"] == [port]
            assert found["spec"]["clusterIP"]

    run(main())


def test_an_object_that_was_deleted_is_made_again(bench: Callable[..., Any], kubectl: Kubectl) -> None:
    async def main() -> None:
        async with bench() as it:
            manifest = it.manifest(data={"a": "1"})
            await it.ensure(manifest)
            kubectl("-n", it.namespace, "delete", "configmap", "one")
            await eventually(lambda: it.cache.get(CONFIG_MAPS, it.namespace, "one") is None)

            assert await it.ensure(manifest)
            assert await it.data() == {"a": "1"}

    run(main())


def test_an_object_that_lost_the_label_it_is_watched_by_gets_it_back(
    bench: Callable[..., Any], kubectl: Kubectl
) -> None:
    async def main() -> None:
        async with bench() as it:
            manifest = it.manifest(data={"a": "1"})
            await it.ensure(manifest)
            kubectl("-n", it.namespace, "label", "configmap", "one", f"{LABEL_MANAGED_BY}=nobody", "--overwrite")
            await eventually(lambda: it.cache.get(CONFIG_MAPS, it.namespace, "one") is None)

            assert await it.ensure(manifest)
            await eventually(lambda: it.cache.get(CONFIG_MAPS, it.namespace, "one") is not None)

    run(main())


@pytest.mark.parametrize("data", [{"a": "other"}, {"b": "elsewhere"}], ids=["differs", "beside"])
def test_an_object_that_nobody_controls_is_left_as_it_is(
    bench: Callable[..., Any], kubectl: Kubectl, data: dict[str, str]
) -> None:
    async def main() -> None:
        async with bench() as it:
            literals = [f"--from-literal={key}={value}" for key, value in data.items()]
            kubectl("-n", it.namespace, "create", "configmap", "one", *literals)
            before = await it.session.read_whole(CONFIG_MAPS, it.namespace, "one")

            with pytest.raises(
                ForeignError, match=f"ConfigMap {it.namespace}/one is there already and controlled by no"
            ):
                await it.ensure(it.manifest(data={"a": "1"}))

            after = await it.session.read_whole(CONFIG_MAPS, it.namespace, "one")
            for one in (before, after):
                for field in ("resourceVersion", "managedFields"):
                    one["metadata"].pop(field)
            assert after == before

    run(main())


def test_an_object_that_another_resource_controls_is_left_as_it_is(bench: Callable[..., Any]) -> None:
    async def main() -> None:
        async with bench() as it:
            other = await it.session.create(CONFIG_MAPS, it.namespace, encode({"metadata": {"name": "other"}}))
            await it.ensure(it.manifest(owner=other.metadata.uid, data={"a": "theirs"}), owner=other.metadata.uid)

            with pytest.raises(ForeignError, match="controlled by ConfigMap other"):
                await it.ensure(it.manifest(data={"a": "1"}))

            assert await it.data() == {"a": "theirs"}

    run(main())


def test_an_object_that_another_program_controls_is_left_as_it_is_though_the_watch_did_not_tell(
    bench: Callable[..., Any], kubectl: Kubectl
) -> None:
    async def main() -> None:
        async with bench() as it:
            other = await it.session.create(CONFIG_MAPS, it.namespace, encode({"metadata": {"name": "other"}}))
            reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": other.metadata.uid}
            kubectl("-n", it.namespace, "create", "configmap", "one")
            change = json.dumps({"metadata": {"ownerReferences": [{**reference, "controller": True}]}})
            kubectl("-n", it.namespace, "patch", "configmap", "one", "-p", change)

            with pytest.raises(ForeignError, match="controlled by ConfigMap other"):
                await it.ensure(it.manifest(data={"a": "1"}))

            assert await it.data() is None

    run(main())


def test_of_two_resources_that_want_one_name_at_the_same_moment_one_gets_it(bench: Callable[..., Any]) -> None:
    async def main() -> None:
        async with bench() as it:
            other = (
                await it.session.create(CONFIG_MAPS, it.namespace, encode({"metadata": {"name": "other"}}))
            ).metadata.uid
            outcomes = await asyncio.gather(
                it.ensure(it.manifest(data={"a": "first"})),
                it.ensure(it.manifest(owner=other, data={"a": "second"}), owner=other),
                return_exceptions=True,
            )

            assert [type(outcome) for outcome in outcomes] == [bool, ForeignError]
            assert await it.data() == {"a": "first"}

    run(main())


def test_an_operator_that_forgot_everything_changes_nothing(bench: Callable[..., Any]) -> None:
    async def main() -> None:
        async with bench() as it:
            manifest = it.manifest(data={"a": "1"})
            await it.ensure(manifest)
            before = await it.session.read(CONFIG_MAPS, it.namespace, "one")

            for cache in (it.cache, Cache(lambda *_: None)):
                assert await Applier(it.session, cache).ensure(Wanted.of(manifest), it.owner_uid)

            after = await it.session.read(CONFIG_MAPS, it.namespace, "one")
            assert after.metadata.version == before.metadata.version

    run(main())


def test_what_is_made_once_is_never_written_again(bench: Callable[..., Any]) -> None:
    async def main() -> None:
        calls: list[str] = []
        async with bench(calls) as it:
            first = await it.applier.create(Wanted.of(it.manifest(data={"secret": "1"})), it.owner_uid)
            blind = Applier(it.session, Cache(lambda *_: None))
            again = [
                await it.applier.create(Wanted.of(it.manifest(data={"secret": "2"})), it.owner_uid),
                await blind.create(Wanted.of(it.manifest(data={"secret": "3"})), it.owner_uid),
            ]

            assert (first, again) == (True, [False, True])
            assert calls == ["post configmaps", "post configmaps", "get configmaps"]
            assert await it.data() == {"secret": "1"}

    run(main())


def test_a_secret_is_made_again_for_the_next_resource_of_that_name(bench: Callable[..., Any], kubectl: Kubectl) -> None:
    async def main() -> None:
        async with bench() as it:
            first = Wanted.of(it.manifest(kind="Secret", stringData={"secret": "1"}))
            await it.applier.create(first, it.owner_uid)
            kubectl("-n", it.namespace, "delete", "secret", "one")
            it.applier.forget([first.place])

            next_uid = "8b5e1b2e-0000-4000-8000-000000000000"
            second = Wanted.of(it.manifest(kind="Secret", owner=next_uid, stringData={"secret": "2"}))
            assert await it.applier.create(second, next_uid)

    run(main())


def test_it_is_known_that_an_object_is_being_made_when_the_watch_shows_it_before_the_answer() -> None:
    made: list[bool] = []
    item = Item(Metadata("one", "default", "uid", "5", labels={LABEL_DEPLOYMENT: "chat"}))

    class Late:
        async def apply(self, *_: Any, **__: Any) -> Item:
            cache.see(CONFIG_MAPS, None, "ADDED", item)
            return item

    cache = Cache(lambda _key, kind, _old, new: made.append(new is not None and applier.is_making(kind, new)))
    applier = Applier(Late(), cache)  # type: ignore[arg-type]  # answers after the watch has told
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": "default"}}

    assert run(applier.ensure(Wanted.of(head), "owner"))
    assert made == [True]
    assert not applier.is_making(CONFIG_MAPS, item)
