"""The operator's own HTTP: is it alive, and its figures."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from headrace_operator.kubernetes.metrics import Metrics

Signals = Callable[[str, str], Mapping[str, float] | None]


@asynccontextmanager
async def surface(
    host: str, port: int, healthy: Callable[[], bool], metrics: Metrics, signals: Signals
) -> AsyncIterator[str]:
    """Answer `/healthz`, `/metrics` and `/scaling/NAMESPACE/POOL` while the context lasts; its value is the address.

    Args:
        host: address to listen on.
        port: port to listen on, 0 takes a free one.
        healthy: whether the operator is worth keeping.
        metrics: to be shown.
        signals: returns the load of an LLMPool by signal, None where it is not known here.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if healthy() else web.Response(text="not alive\n", status=503)

    async def figures(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    async def load(request: web.Request) -> web.Response:
        found = signals(request.match_info["namespace"], request.match_info["pool"])
        if found is None:
            error = {
                "error": "the load of this pool is not known here; ask the operator that leads, or wait for a round"
            }
            return web.json_response(error, status=503)
        return web.json_response(found)

    application = web.Application()
    application.router.add_get("/scaling/{namespace}/{pool}", load)
    application.router.add_get("/healthz", health)
    application.router.add_get("/metrics", figures)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
