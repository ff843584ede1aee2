"""Calls to a real API server, and to one that fails in the ways real ones do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from e2e.cluster.api import ApiCluster
from e2e.cluster.kubectl import Kubectl
from tests.operator.cluster.loop import eventually, run

from headrace_api.names import LABEL_DEPLOYMENT
from headrace_operator.kubernetes.credentials import load
from headrace_operator.kubernetes.errors import (
    ConflictError,
    CredentialsError,
    GoneError,
    NotFoundError,
    NotLeadingError,
    RefusedError,
    TooManyError,
    UnauthorizedError,
    UnavailableError,
)
from headrace_operator.kubernetes.kinds import CONFIG_MAPS, DEPLOYMENTS
from headrace_operator.kubernetes.session import Session, encode

Connect = Callable[..., Any]


def config_map(name: str, namespace: str, **data: str) -> bytes:
    metadata = {"name": name, "namespace": namespace, "labels": {LABEL_DEPLOYMENT: "chat"}}
    return encode({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


@pytest.mark.processes
def test_fields_of_others_stay_and_a_changed_field_of_ours_changes_the_mark(
    connect: Connect, namespace: str, kubectl: Kubectl
) -> None:
    async def main() -> None:
        async with connect() as session:
            first = await session.apply(CONFIG_MAPS, namespace, "one", config_map("one", namespace, a="1"), force=False)
            kubectl("-n", namespace, "patch", "configmap", "one", "-p", '{"data":{"theirs":"2"}}')
            beside = await session.read(CONFIG_MAPS, namespace, "one")
            kubectl("-n", namespace, "patch", "configmap", "one", "-p", '{"data":{"a":"changed"}}')
            taken = await session.read(CONFIG_MAPS, namespace, "one")

            with pytest.raises(ConflictError, match="a"):
                await session.apply(CONFIG_MAPS, namespace, "one", config_map("one", namespace, a="1"), force=False)
            back = await session.apply(CONFIG_MAPS, namespace, "one", config_map("one", namespace, a="1"), force=True)
            data = (await session.read_whole(CONFIG_MAPS, namespace, "one"))["data"]

        assert first.metadata.mark == beside.metadata.mark != 0
        assert (first.metadata.shared, beside.metadata.shared) == (False, True)
        assert taken.metadata.mark != first.metadata.mark
        assert back.metadata.mark == first.metadata.mark
        assert data == {"a": "1", "theirs": "2"}

    run(main())


@pytest.mark.processes
def test_applying_the_same_again_writes_nothing(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        async with connect() as session:
            body = config_map("one", namespace, a="1")
            versions = [
                (await session.apply(CONFIG_MAPS, namespace, "one", body, force=True)).metadata.version
                for _ in range(3)
            ]
        assert len(set(versions)) == 1

    run(main())


@pytest.mark.processes
def test_each_refusal_of_the_server_is_told_apart(connect: Connect, namespace: str, kubectl: Kubectl) -> None:
    async def main() -> None:
        async with connect() as session:
            with pytest.raises(NotFoundError):
                await session.read(CONFIG_MAPS, namespace, "none")
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dota": {}}
            with pytest.raises(RefusedError, match=r"\.dota: field not declared in schema"):
                await session.apply(CONFIG_MAPS, namespace, "x", encode(body), force=True)
            await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            with pytest.raises(ConflictError, match="already exists"):
                await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            change = {"metadata": {"resourceVersion": "1"}, "data": {"a": "1"}}
            with pytest.raises(ConflictError, match="has been modified"):
                await session.merge(CONFIG_MAPS, namespace, "x", change)
            with pytest.raises(NotFoundError, match="not found"):
                await session.create(CONFIG_MAPS, "no-such-namespace", encode({"metadata": {"name": "x"}}))

    kubectl("-n", namespace, "create", "configmap", "seen", "--from-literal=a=b")
    run(main())


@pytest.mark.processes
def test_deleting_takes_that_very_object_and_is_fine_when_it_has_gone(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        async with connect() as session:
            first = await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            await session.delete(CONFIG_MAPS, namespace, "x", first.metadata.uid)
            await session.delete(CONFIG_MAPS, namespace, "x", first.metadata.uid)
            await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            await session.delete(CONFIG_MAPS, namespace, "x", first.metadata.uid)

            assert (await session.read(CONFIG_MAPS, namespace, "x")).metadata.uid != first.metadata.uid

    run(main())


@pytest.mark.processes
def test_long_lists_come_in_pages_and_a_watch_goes_on_from_them(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        async with connect() as session:
            for number in range(7):
                name = f"map-{number}"
                await session.apply(CONFIG_MAPS, namespace, name, config_map(name, namespace), force=True)
            found, version, pages = [], "", 0
            async for page, at in session.pages(CONFIG_MAPS, namespace, f"{LABEL_DEPLOYMENT}=chat", size=3):
                found += [one.metadata.name for one in page]
                version, pages = at, pages + 1
            await session.apply(CONFIG_MAPS, namespace, "later", config_map("later", namespace), force=True)
            async for change, item in session.watch(
                CONFIG_MAPS, namespace, f"{LABEL_DEPLOYMENT}=chat", version, lasting_s=30
            ):
                seen = (change, item.metadata.name)
                break

        assert (pages, sorted(found)) == (3, [f"map-{number}" for number in range(7)])
        assert seen == ("ADDED", "later")

    run(main())


@pytest.mark.processes
def test_nothing_is_written_without_leadership(connect: Connect, namespace: str) -> None:
    async def main() -> None:
        async with connect(leadership_s=lambda: 0.2) as session:
            with pytest.raises(NotLeadingError):
                await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            with pytest.raises(NotFoundError):
                await session.read(CONFIG_MAPS, namespace, "x")

    run(main())


@pytest.mark.processes
def test_leadership_that_ends_before_a_write_goes_out_keeps_it_back(connect: Connect, namespace: str) -> None:
    left = iter([3.0, 0.0])

    async def main() -> None:
        async with connect(leadership_s=lambda: next(left)) as session:
            with pytest.raises(NotLeadingError):
                await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "x"}}))
            with pytest.raises(NotFoundError):
                await session.read(CONFIG_MAPS, namespace, "x")

    run(main())


def test_a_missing_kubeconfig_is_told_with_what_to_do(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(CredentialsError, match="set KUBECONFIG"):
            await load(str(tmp_path / "none"))

    run(main())


class Faults:
    """An API server that answers as it is told, one answer for each call; `None` hangs."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str] | None] = []
        self.heads: list[str] = []
        self.body: dict[str, Any] = {"metadata": {"name": "x"}, "message": "told so"}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                self.heads.append(text)
                size = next((int(line[15:]) for line in text.lower().split("\r\n") if "content-length:" in line), 0)
                await reader.readexactly(size)
                answer = self.answers.pop(0)
                if answer is None:
                    await reader.read()
                    return
                status, extra = answer
                body = json.dumps(self.body).encode() + b"\n"
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n".encode() + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def start(*answers: tuple[int, str] | None, **options: Any) -> AsyncIterator[tuple[Session, Faults]]:
        faults = Faults()
        faults.answers = list(answers)
        server = await asyncio.start_server(faults.serve, "127.0.0.1", 0)
        token = tmp_path / "token"
        token.write_text("first\n")
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [
                {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}
            ],
            "users": [{"name": "u", "user": {"tokenFile": str(token)}}],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        async with server, Session(await load(str(path)), **options) as session:
            yield session, faults

    return start


OK = (200, "")


@pytest.mark.parametrize("fault", [(500, ""), (503, ""), (429, "retry-after: 0.1\r\n")])
def test_a_call_that_failed_by_the_servers_fault_is_made_again(faulty: Connect, fault: tuple[int, str]) -> None:
    async def main() -> None:
        async with faulty(fault, fault, OK) as (session, faults):
            await session.read(CONFIG_MAPS, "default", "x")
            assert len(faults.heads) == 3

    run(main())


def test_a_server_that_hangs_is_given_up_at_the_deadline(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty(None, None, None, None, deadline_s=0.2) as (session, faults):
            with pytest.raises(UnavailableError, match="GET /api/v1/namespaces/default/configmaps/x: "):
                await session.read(CONFIG_MAPS, "default", "x")
            assert len(faults.heads) == 4

    run(main())


def test_creating_is_not_repeated_since_it_may_have_worked(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty((500, "")) as (session, faults):
            with pytest.raises(UnavailableError, match="told so"):
                await session.create(CONFIG_MAPS, "default", encode({}))
            assert len(faults.heads) == 1

    run(main())


def test_a_conflict_on_a_deletion_is_told_unless_the_object_has_gone(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty((409, ""), OK, (409, ""), OK) as (session, faults):
            faults.body = {"message": "try again", "metadata": {}, "items": [{"metadata": {"name": "x", "uid": "u1"}}]}
            with pytest.raises(ConflictError, match="try again"):
                await session.delete(CONFIG_MAPS, "default", "x", "u1")
            await session.delete(CONFIG_MAPS, "default", "x", "an older one")

    run(main())


def test_a_long_pause_that_the_server_asks_for_is_handed_on(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty((429, "retry-after: 30\r\n")) as (session, _):
            with pytest.raises(TooManyError) as caught:
                await session.read(DEPLOYMENTS, "default", "x")
            assert caught.value.retry_after_s == 30

    run(main())


def test_a_rotated_token_is_read_anew_when_the_old_one_is_refused(faulty: Connect, tmp_path: Path) -> None:
    async def main() -> None:
        async with faulty(OK, (401, ""), OK) as (session, faults):
            await session.read(CONFIG_MAPS, "default", "x")
            (tmp_path / "token").write_text("second\n")
            await session.read(CONFIG_MAPS, "default", "x")
            shown = [line for head in faults.heads for line in head.lower().split("\r\n") if "authorization" in line]
            assert shown == [
                "authorization: bearer first",
                "authorization: bearer first",
                "authorization: bearer second",
            ]

    run(main())


def test_credentials_that_stay_refused_are_an_error(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty((401, ""), (401, "")) as (session, _):
            with pytest.raises(UnauthorizedError):
                await session.read(CONFIG_MAPS, "default", "x")

    run(main())


def test_a_watch_that_hears_nothing_is_given_up(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty(None, silence_s=0.2) as (session, _):
            with pytest.raises(UnavailableError, match="the watch of configmaps broke"):
                async for _ in session.watch(CONFIG_MAPS, None, "", "1", lasting_s=30):
                    pass

    run(main())


def test_a_watch_from_a_version_that_is_forgotten_says_so(faulty: Connect) -> None:
    async def main() -> None:
        async with faulty(OK) as (session, faults):
            faults.body = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
            with pytest.raises(GoneError, match="too old"):
                async for _ in session.watch(CONFIG_MAPS, None, "", "1", lasting_s=30):
                    pass

    run(main())


@pytest.mark.processes
def test_the_server_knows_by_its_log_which_operator_called(
    connect: Connect, namespace: str, api_cluster: ApiCluster
) -> None:
    async def main() -> None:
        async with connect(identity="pod-7") as session:
            await session.create(CONFIG_MAPS, namespace, encode({"metadata": {"name": "mine"}}))
        await eventually(lambda: "headrace-operator/pod-7" in api_cluster.audit_log.read_text())

    run(main())
