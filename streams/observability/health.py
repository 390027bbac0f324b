"""``/metrics``, ``/healthz`` and ``/readyz``, served by the worker's own event loop.

The same loop that counts also answers, so a scrape never sees half a batch; and a loop that is blocked does not answer.
"""

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from driftline.detectors.errors import OperatorError
from driftline.streams.observability.metrics import Metrics

PORT = 9108
"""Where workers serve whose configuration names no port."""
PORTS = range(PORT, PORT + 20)
"""Where they look for a free one: several workers on one machine."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@asynccontextmanager
async def serving(
    metrics: Metrics, unready: Callable[[], str | None], host: str, port: int | None
) -> AsyncIterator[int]:
    """Serve while the block runs.

    Parameters
    ----------
    metrics
        What ``/metrics`` shows.
    unready
        Why the worker is not ready; None when it is.
    host, port
        Where to listen; port 0 takes any free one, None the first free one of :data:`PORTS`.

    Yields
    ------
    The port.

    Raises
    ------
    OperatorError
        Where the port is taken or the address is not this machine's.
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
        await _listen(runner, host, port)
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int | None) -> None:
    """Take the port that was asked for, or the first free one where none was."""
    for candidate in PORTS if port is None else [port]:
        try:
            await web.TCPSite(runner, host, candidate).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            raise _unusable(host, candidate, error) from error
        return
    raise OperatorError(
        f"worker.metrics_port: ports {PORTS[0]} to {PORTS[-1]} are taken on {host}; set another, or 0 for any free one"
    )


def _unusable(host: str, port: int, error: OSError) -> OperatorError:
    """Tell which of the two keys is at fault."""
    if error.errno == errno.EADDRINUSE:
        return OperatorError(
            f"worker.metrics_port = {port}: is taken on {host}; set another, 0 for any free one, or leave it out"
        )
    if error.errno == errno.EACCES:
        return OperatorError(f"worker.metrics_port = {port}: needs privileges; set one from 1024 on")
    reason = error.strerror or str(error)
    return OperatorError(f"worker.metrics_host = {host!r}: {reason}; name an address of this machine, or 0.0.0.0")
