"""Pods as workers: the protocol against a server that misbehaves on purpose, and routing against a real API server."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.router.rig import DEADLINE_S, FakeWorker, chat, rig, run, until

from headrace_router.discovery import api, kubernetes
from headrace_router.discovery.access import Access
from headrace_router.discovery.kubernetes import FIRST_PAUSE_S, LONGEST_PAUSE_S, KubernetesDiscovery, pause_s
from headrace_router.discovery.worker import Worker

GONE_S = 1.0
"""Within this time a pod that is being deleted has no new requests."""


def pod(name: str, version: int, *, ready: bool = True, restarts: int = 0, **meta: Any) -> dict[str, Any]:
    """Return a pod as the API server tells of it."""
    labels = {"serving.headrace.dev/deployment": "chat", "serving.headrace.dev/role": "decode"}
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version), "labels": labels, **meta},
        "spec": {"containers": [{"name": "worker", "ports": [{"name": "http", "containerPort": 8000}]}]},
        "status": {
            "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"name": "worker", "restartCount": restarts}],
        },
    }


class FakeApi:
    """An API server that knows pods only; tests feed its watches."""

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.version = 1
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.tokens: list[str | None] = []
        self.refuse: list[tuple[int, dict[str, str]]] = []
        """Status and headers for the next requests, in order."""
        self.page = 0
        """Pods of one page; 0: all."""
        self.feeds: list[asyncio.Queue[bytes | None]] = []
        """For each watch that was granted: bytes for it, and None, which ends it."""
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers.get("authorization"))
        query = dict(request.query)
        (self.watches if "watch" in query else self.lists).append(query)
        if self.refuse:
            status, headers = self.refuse.pop(0)
            return web.json_response({"code": status, "message": "no"}, status=status, headers=headers)
        if "watch" in query:
            return await self.watch(request)
        start = int(query.get("continue", "0"))
        end = start + self.page if self.page else len(self.pods)
        more = {"continue": str(end)} if end < len(self.pods) else {}
        meta = {"resourceVersion": str(self.version), **more}
        return web.json_response({"metadata": meta, "items": self.pods[start:end]})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        feed: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.feeds.append(feed)
        while (data := await feed.get()) is not None:
            await response.write(data)
        return response

    @property
    def feed(self) -> "asyncio.Queue[bytes | None]":
        """The watch that began last."""
        return self.feeds[-1]

    def say(self, kind: str, content: dict[str, Any]) -> None:
        self.feed.put_nowait(json.dumps({"type": kind, "object": content}).encode() + b"\n")


class Known:
    """What discovery said last."""

    def __init__(self) -> None:
        self.told: list[tuple[Worker, ...]] = []
        self.models: frozenset[str] = frozenset()

    def __call__(self, workers: tuple[Worker, ...], models: frozenset[str]) -> None:
        self.told.append(workers)
        self.models = models

    @property
    def names(self) -> list[str]:
        return [worker.name for worker in self.told[-1]]


@contextlib.asynccontextmanager
async def following(known: Known, access: Callable[[str], Access] = Access) -> AsyncIterator[FakeApi]:
    """Run discovery against a fake API server."""
    server = FakeApi()
    application = web.Application()
    application.router.add_get("/api/v1/namespaces/ns/pods", server.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    discovery = KubernetesDiscovery({"ns": ["chat", "base"]}, access(server.url), known)
    discovery.start()
    task = asyncio.create_task(discovery.run())
    try:
        yield server
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for feed in server.feeds:
            feed.put_nowait(None)
        await runner.cleanup()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "LONGEST_PAUSE_S", 0.05)


def test_pods_are_listed_by_their_labels_then_watched_from_the_lists_version() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            assert known.told == [()]
            assert known.models == {"chat", "base"}
            server.pods, server.version = [pod("a", 3), pod("b", 4, ready=False)], 7
            await _watches(server, 1)
            assert known.names == ["a"]
            selector = "serving.headrace.dev/deployment in (base,chat),serving.headrace.dev/role"
            assert server.lists[0]["labelSelector"] == server.watches[0]["labelSelector"] == selector
            assert (server.watches[0]["resourceVersion"], server.watches[0]["allowWatchBookmarks"]) == ("7", "true")
            server.say("MODIFIED", pod("b", 8))
            server.say("ADDED", pod("c", 9))
            server.say("DELETED", pod("a", 10))
            await until(lambda: known.names == ["b", "c"], "what changed")
            server.say("MODIFIED", pod("b", 11, deletionTimestamp="2026-01-01T00:00:00Z"))
            await until(lambda: known.names == ["c"], "the deletion")
            server.say("MODIFIED", pod("c", 12, restarts=1))
            await until(lambda: known.told[-1][0].incarnation == "uid-c/1", "the restart")

    run(main())


def test_a_change_that_concerns_no_worker_is_not_told() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            server.pods = [pod("a", 1)]
            await _watches(server, 1)
            before = len(known.told)
            server.say("MODIFIED", pod("a", 2, annotations={"x": "y"}))
            server.say("ADDED", pod("b", 3))
            await until(lambda: known.names == ["a", "b"], "the second worker")
            assert len(known.told) == before + 1

    run(main())


def test_a_watch_that_ends_goes_on_from_the_last_version_without_a_list() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            await _watches(server, 1)
            server.say("ADDED", pod("a", 5))
            server.say("BOOKMARK", {"metadata": {"resourceVersion": "21"}, "spec": {"containers": None}, "status": {}})
            server.feed.put_nowait(None)
            await _watches(server, 2)
            assert server.watches[1]["resourceVersion"] == "21"
            assert len(server.lists) == 1
            assert known.names == ["a"]

    run(main())


def test_events_may_come_in_any_pieces() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            await _watches(server, 1)
            line = json.dumps({"type": "ADDED", "object": pod("a", 5, annotations={"x": "y" * 300_000})}).encode()
            server.feed.put_nowait(line[:100])
            server.feed.put_nowait(line[100:] + b"\n" + line[:7])
            await until(lambda: known.names == ["a"], "the event")

    run(main())


@pytest.mark.parametrize("way", ["event", "status"])
def test_a_version_that_is_too_old_costs_a_new_list_which_corrects_what_was_missed(way: str) -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            server.pods = [pod("a", 1), pod("b", 2)]
            await _watches(server, 1)
            server.pods, server.version = [pod("b", 2), pod("c", 50)], 50
            if way == "event":
                server.say("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
            else:
                server.refuse.append((410, {}))
                server.feed.put_nowait(None)
            await until(lambda: known.names == ["b", "c"], "what the new list says")
            await until(lambda: server.watches[-1]["resourceVersion"] == "50", "a watch from the new list")
            assert len(server.lists) == 2

    run(main())


def test_while_the_api_server_fails_what_is_known_stays() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            server.pods = [pod("a", 1)]
            await _watches(server, 1)
            server.refuse += [(500, {}), (429, {"retry-after": "0"}), (401, {}), (403, {}), (503, {})]
            server.feed.put_nowait(b'{"type": "ADD')
            server.feed.put_nowait(None)
            await until(lambda: not server.refuse, "all refusals taken")
            assert all(names == known.told[1] for names in known.told[1:])
            await until(lambda: len(server.feeds) == 2, "a watch after the refusals")
            server.say("ADDED", pod("b", 9))
            await until(lambda: known.names == ["a", "b"], "news")
            assert len(server.lists) == 1

    run(main())


def test_a_watch_of_nonsense_is_begun_again() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            await _watches(server, 1)
            for nonsense in (b"<html>\n", b'{"type": "ADDED", "object": {"metadata": 5}}\n', b"\xff\n"):
                before = len(server.watches)
                server.feed.put_nowait(nonsense)
                await _watches(server, before + 1)
            server.say("ADDED", pod("a", 9))
            await until(lambda: known.names == ["a"], "news")

    run(main())


def test_a_server_that_hangs_is_given_up_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "WATCH_S", 0.1)
    monkeypatch.setattr(api, "SLACK_S", 0.2)

    async def main() -> None:
        known = Known()
        async with following(known) as server:
            await until(lambda: len(server.watches) >= 3, "watches after the silent ones")

    run(main())


def test_a_token_that_was_rotated_is_used_from_the_next_request_on(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first")

    async def main() -> None:
        known = Known()
        async with following(known, lambda url: Access(url, token=token)) as server:
            await _watches(server, 1)
            token.write_text("second")
            server.feed.put_nowait(None)
            await _watches(server, 2)
            assert server.tokens[:2] == ["Bearer first"] * 2
            assert server.tokens[-1] == "Bearer second"

    run(main())


def test_long_lists_come_in_pages() -> None:
    async def main() -> None:
        known = Known()
        async with following(known) as server:
            server.page = 2
            server.pods = [pod(name, 1) for name in "abcde"]
            await _watches(server, 1)
            assert known.names == list("abcde")
            assert [one.get("continue") for one in server.lists] == [None, "2", "4"]

    run(main())


def test_pauses_grow_up_to_a_bound_and_differ_between_routers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "LONGEST_PAUSE_S", LONGEST_PAUSE_S)
    assert pause_s(1, 1.0) == FIRST_PAUSE_S
    assert pause_s(3, 1.0) == 4 * FIRST_PAUSE_S
    assert pause_s(1000, 1.0) == LONGEST_PAUSE_S
    assert pause_s(1000, 0.0) == LONGEST_PAUSE_S / 2


async def _watches(server: FakeApi, count: int) -> None:
    await until(lambda: len(server.feeds) >= count, f"watch number {count}")


# --- a real API server ---------------------------------------------------------------------------------------


class Cluster:
    """A namespace of a real API server, whose pods no node runs: the test says what they are."""

    def __init__(self, cluster: ApiCluster, namespace: str) -> None:
        self.kubeconfig = str(cluster.kubeconfig)
        self.namespace = namespace
        self._config = yaml.safe_load(cluster.kubeconfig.read_text())
        self._kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return await asyncio.to_thread(self._kubectl, "-n", self.namespace, *arguments, stdin=stdin)

    async def create(self, worker: FakeWorker, *, pairing: str | None = None) -> None:
        """Make a pod for the worker; the finalizer keeps it after its deletion, as its processes would."""
        labels = {"serving.headrace.dev/deployment": worker.deployment, "serving.headrace.dev/role": worker.role}
        if pairing is not None:
            labels["serving.headrace.dev/pairing"] = pairing
        port = int(worker.url.rpartition(":")[2])
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": worker.name, "labels": labels, "finalizers": ["test.headrace.dev/process"]},
            "spec": {
                "schedulerName": "nobody",
                "containers": [{"name": "worker", "image": "none", "ports": [{"name": "http", "containerPort": port}]}],
            },
        }
        await self.kubectl("create", "-f", "-", stdin=json.dumps(manifest))

    async def report(self, name: str, *, ready: bool = True, restarts: int = 0) -> None:
        """Write the status that a node would."""
        container = {"name": "worker", "image": "none", "imageID": "none", "ready": ready, "restartCount": restarts}
        status = {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [container],
        }
        patch = json.dumps({"status": status})
        await self.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)

    async def account(self, folder: Path) -> str:
        """Return a kubeconfig of a service account without any right."""
        await self.kubectl("create", "serviceaccount", "router")
        (folder / "token").write_text(await self.kubectl("create", "token", "router"))
        config = self._config | {"users": [{"name": "admin", "user": {"tokenFile": "token"}}]}
        (folder / "config").write_text(json.dumps(config))
        return str(folder / "config")

    async def release(self, *names: str) -> None:
        """Let deleted pods go."""
        for name in names:
            await self.kubectl("patch", "pod", name, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')


@pytest.fixture
def cluster(api_cluster: ApiCluster, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    kubectl = Kubectl(api_cluster.kubectl, api_cluster.kubeconfig)
    namespace = f"router-{abs(hash(request.node.name)) % 10**8}"
    kubectl("create", "namespace", namespace)
    yield Cluster(api_cluster, namespace)
    kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.processes
def test_requests_follow_the_pods_of_a_real_cluster(cluster: Cluster, tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"discovery": f"kubernetes:{cluster.namespace}/chat", "kubeconfig": cluster.kubeconfig}
        async with rig(tmp_path, **settings, hold_deadline_s=20.0) as it:
            first, second = [await it.worker(name, listed=False) for name in ("d0", "d1")]
            waiting = asyncio.create_task(it.ask(chat()))
            await until(it.router.hold.counts, "a request that waits: the model is known, no worker is")
            await cluster.create(first)
            await cluster.report("d0")
            assert (await waiting).headers["x-headrace-decode"] == "d0"
            await cluster.create(second)
            await cluster.report("d1")
            await until(lambda: len(_decoders(it)) == 2, "both pods")
            first.hold.clear()
            second.hold.clear()
            running = [asyncio.create_task(it.ask(chat())) for _ in range(2)]
            await until(lambda: len(first.seen) == 2 and len(second.seen) == 1, "a request on each")
            began_s = time.monotonic()
            await cluster.kubectl("delete", "pod", "d0", "--wait=false")
            told_s = time.monotonic()
            await until(lambda: [one.worker.name for one in _decoders(it)] == ["d1"], "the pod has left")
            assert time.monotonic() - told_s < GONE_S
            first.hold.set()
            second.hold.set()
            served = {(await one).headers["x-headrace-decode"] for one in running}
            assert served == {"d0", "d1"}, "what ran there went on to its end"
            assert all([(await it.ask(chat())).headers["x-headrace-decode"] == "d1" for _ in range(4)])
            assert time.monotonic() - began_s < DEADLINE_S
            await cluster.release("d0")
            await cluster.kubectl("delete", "pod", "d1", "--wait=false")
            await until(lambda: not _decoders(it), "no pod is left")
            await cluster.release("d1")
            assert "chat" in it.router.registry.deployments

    run(main())


@pytest.mark.processes
def test_a_container_that_restarted_in_its_pod_starts_with_a_clean_record(cluster: Cluster, tmp_path: Path) -> None:
    async def main() -> None:
        settings = {"discovery": f"kubernetes:{cluster.namespace}/chat", "kubeconfig": cluster.kubeconfig}
        async with rig(tmp_path, **settings, hold_deadline_s=20.0) as it:
            worker = await it.worker("d0", listed=False)
            await cluster.create(worker, pairing="x")
            await cluster.report("d0")
            await until(lambda: _decoders(it), "the pod")
            (before,) = _decoders(it)
            for _ in range(20):
                before.breaker.failed(before.breaker.open_until_s)
            await cluster.report("d0", ready=False)
            await until(lambda: not _decoders(it), "the pod is not ready")
            await cluster.report("d0", restarts=1)
            await until(lambda: _decoders(it), "the pod again")
            (after,) = _decoders(it)
            assert after.worker.url == before.worker.url
            assert after.worker != before.worker
            assert after.breaker.failures == 0
            assert (await it.ask(chat())).status == 200
            await cluster.kubectl("delete", "pod", "d0", "--wait=false")
            await cluster.release("d0")

    run(main())


@pytest.mark.processes
def test_to_list_and_to_watch_pods_are_all_the_rights_that_are_needed(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        kubeconfig = await cluster.account(tmp_path)
        async with rig(tmp_path, discovery=f"kubernetes:{cluster.namespace}/chat", kubeconfig=kubeconfig) as it:
            worker = await it.worker("d0", listed=False)
            await cluster.create(worker)
            await cluster.report("d0")
            needed = f"needs list and watch on pods in namespace '{cluster.namespace}'"
            await until(lambda: needed in caplog.text, "a sentence about the missing rights")
            await cluster.kubectl("create", "role", "router", "--verb=list,watch", "--resource=pods")
            await cluster.kubectl(
                "create", "rolebinding", "router", "--role=router", f"--serviceaccount={cluster.namespace}:router"
            )
            await until(lambda: _decoders(it), "the pod")
            assert (await it.ask(chat())).status == 200
            await cluster.kubectl("delete", "pod", "d0", "--wait=false")
            await until(lambda: not _decoders(it), "the pod has left")
            await cluster.release("d0")

    run(main())


def _decoders(it: Any) -> Any:
    return it.router.registry.deployments["chat"].decoders
