"""``/metrics``, ``/healthz`` and ``/readyz``, served by the worker's own event loop.

The same loop that counts also answers, so a scrape never sees half a batch; and a loop that is blocked does not answer.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from driftline.streams.metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serving(metrics: Metrics, unready: Callable[[], str | None], host: str, port: int) -> AsyncIterator[int]:
    """Serve while the block runs.

    Parameters
    ----------
    metrics
        What ``/metrics`` shows.
    unready
        Why the worker is not ready; None when it is.
    host, port
        Where to listen; port 0 takes any free one.

    Yields
    ------
    The port.
    """

    async def exposition(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def alive(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_request: web.Request) -> web.Response:
        reason = unready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    application = web.Application()
    application.add_routes([web.get("/metrics", exposition), web.get("/healthz", alive), web.get("/readyz", ready)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
