"""``driftline worker``: run a worker."""

from __future__ import annotations

import asyncio
import os
import signal

import click

from driftline.streams.cli.options import app_id_option, bootstrap_option, settings_of
from driftline.streams.kafka.connection import probe


@click.command()
@app_id_option
@bootstrap_option
@click.pass_context
def worker(context: click.Context, app_id: str | None, bootstrap_servers: str | None) -> int:
    """Watch the predictions topic until told to stop (SIGTERM, Ctrl-C).

    Start as many as the topic has partitions: they share the work, and when one goes the others take over.
    """
    # Until the worker runs there is nothing to save. An exception is no way out: raised inside a finalizer, say, it is
    # swallowed, and a worker that was told to stop goes on.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    settings = settings_of(context, bootstrap_servers, app_id)
    asyncio.run(probe(settings.kafka))  # Faust would try for ever
    from driftline.streams.worker.app import run_worker  # noqa: PLC0415 - Faust, river and scipy: 2 s, not before the probe

    return run_worker(settings)
