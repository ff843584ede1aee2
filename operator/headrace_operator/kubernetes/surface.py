"""The operator's own HTTP: is it alive, and its figures."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from headrace_operator.kubernetes.metrics import Metrics


@asynccontextmanager
async def surface(host: str, port: int, healthy: Callable[[], bool], metrics: Metrics) -> AsyncIterator[str]:
    """Answer `/healthz` and `/metrics` while the context lasts; its value is the address.

    Args:
        host: address to listen on.
        port: port to listen on, 0 takes a free one.
        healthy: whether the operator is worth keeping.
        metrics: to be shown.
    """

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if healthy() else web.Response(text="not alive\n", status=503)

    async def figures(_: web.Request) -> web.Response:
        return web.Response(body=metrics.page(), headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    application = web.Application()
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
