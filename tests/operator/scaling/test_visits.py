"""Questions to workers and routers over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from tests.operator.cluster.loop import eventually, run

from headrace_api.names import REQUESTS_RUNNING, REQUESTS_WAITING
from headrace_operator.http.exchange import exchange
from headrace_operator.kubernetes.metrics import Metrics
from headrace_operator.kubernetes.scaling.figures import Figures
from headrace_operator.kubernetes.scaling.pages import Pages
from headrace_operator.kubernetes.scaling.visits import Visits
from headrace_operator.kubernetes.scaling.waiting import Waiting
from headrace_operator.kubernetes.scaling.wants import Want, Wants
from headrace_operator.kubernetes.surface import surface
from headrace_operator.scaling.load import PoolLoad

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = f"{REQUESTS_RUNNING}{{}} 2.0\n{REQUESTS_WAITING}{{}} 1.0\n"


@asynccontextmanager
async def serving(path: str, handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get(path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_pages_are_read_and_one_connection_is_kept() -> None:
    async def main() -> None:
        peers = []

        async def metrics(request: web.Request) -> web.Response:
            peers.append(request.transport.get_extra_info("peername") if request.transport else None)
            return web.Response(text=PAGE)

        async with serving("/metrics", metrics) as url:
            pages = Pages(Visits())
            for _ in range(3):
                await pages.look([url])
            found = pages.of(url)
            assert found is not None
            assert found.page.load.running == 2
            assert len(peers) == 3
            assert len(set(peers)) == 1
            pages.keep(())
            assert pages.of(url) is None
            pages.close()

    run(main())


def test_a_worker_that_does_not_answer_keeps_its_last_page_and_holds_nobody_up() -> None:
    async def main() -> None:
        silent = asyncio.Event()

        async def metrics(_: web.Request) -> web.Response:
            if silent.is_set():
                await asyncio.Event().wait()
            return web.Response(text=PAGE)

        async def fine(_: web.Request) -> web.Response:
            return web.Response(text=PAGE)

        async with serving("/metrics", metrics) as stuck, serving("/metrics", fine) as other:
            pages = Pages(Visits(), deadline_s=0.2)
            await pages.look([stuck, other])
            first = pages.of(stuck), pages.of(other)
            silent.set()
            await pages.look([stuck, other, "http://127.0.0.1:1"])
            assert pages.of(stuck) == first[0]
            assert pages.of(other) != first[1]
            assert pages.of("http://127.0.0.1:1") is None
            pages.close()

    run(main())


def test_a_router_is_asked_again_and_again_and_wakes_at_once() -> None:
    async def main() -> None:
        waiting, asked, woken = {"chat": 0}, [], asyncio.Event()
        news = asyncio.Event()

        async def poll(request: web.Request) -> web.Response:
            seconds = float(request.query["seconds"])
            asked.append(seconds)
            if seconds:
                await news.wait()
            return web.json_response({"waiting": waiting})

        async with serving("/waiting", poll) as url:
            polls = Waiting(Visits(), woken.set)
            polls.follow([url])
            now = asyncio.get_running_loop().time
            assert polls.held([url], "chat", now()) is None
            await eventually(lambda: len(asked) == 2)
            assert asked == [0, 30]
            assert polls.held([url], "chat", now()) == 0
            assert not woken.is_set()
            waiting["chat"] = 2
            news.set()
            await eventually(woken.is_set)
            assert polls.held([url], "chat", now()) == 2
            assert polls.held([url], "other", now()) == 0
            assert polls.held([url, "http://127.0.0.1:1"], "chat", now()) is None
            assert polls.held([url], "chat", now() + 3600) is None
            polls.follow([])
            assert polls.held([url], "chat", now()) is None
            await polls.close()

    run(main())


def test_a_router_that_answers_without_a_wait_is_not_asked_without_end() -> None:
    async def main() -> None:
        asked = []

        async def poll(_: web.Request) -> web.Response:
            asked.append(1)
            return web.json_response({"waiting": {}})

        async with serving("/waiting", poll) as url:
            polls = Waiting(Visits(), lambda: None)
            polls.follow([url])
            await eventually(lambda: len(asked) == 3)
            assert polls.held([url], "chat", asyncio.get_running_loop().time()) == 0
            began = asyncio.get_running_loop().time()
            await eventually(lambda: len(asked) == 4)
            assert asyncio.get_running_loop().time() - began > 0.5
            await polls.close()

    run(main())


def test_an_answer_that_is_none_tells_nothing() -> None:
    async def main() -> None:
        asked = []

        async def poll(_: web.Request) -> web.Response:
            asked.append(1)
            return web.json_response({"waiting": {"chat": "many"}})

        async with serving("/waiting", poll) as url:
            polls = Waiting(Visits(), lambda: None)
            polls.follow([url])
            await eventually(lambda: asked)
            await polls.close()
            assert polls.held([url], "chat", asyncio.get_running_loop().time()) is None

    run(main())


def test_the_load_of_a_pool_can_be_read_where_it_is_known() -> None:
    async def main() -> None:
        wants, metrics = Wants(), Metrics()
        metrics.registry.register(Figures(wants, lambda: 0.25))
        wants.put({("team", "chat-decode"): Want(3, PoolLoad(2, running=4, busy=2), held=1)})

        def signals(namespace: str, pool: str) -> dict[str, float] | None:
            want = wants.get(namespace, pool)
            return None if want is None else want.raw()

        async with surface("127.0.0.1", 0, lambda: True, metrics, signals) as url:
            known = await exchange(f"{url}/scaling/team/chat-decode", deadline_s=5)
            assert known.status == 200
            assert b'"requestsRunning": 4' in known.body
            unknown = await exchange(f"{url}/scaling/team/chat-prefill", deadline_s=5)
            assert unknown.status == 503
            assert b"not known here" in unknown.body
            page = (await exchange(f"{url}/metrics", deadline_s=5)).body.decode()
            assert 'headrace_operator_workers_wanted{namespace="team",pool="chat-decode"} 3.0' in page
            assert (
                'headrace_operator_pool_load{namespace="team",pool="chat-decode",signal="requestsWaiting"} 1.0' in page
            )
            assert "headrace_operator_scaling_round_seconds 0.25" in page

    run(main())
