"""``driftline config``: check, show and describe the configuration."""

from __future__ import annotations

import json

import click

from driftline.streams.cli.options import settings_of
from driftline.streams.terminal import say


@click.group()
def config() -> None:
    """Check, show and describe the configuration."""


@config.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check the configuration and the files that it names; Kafka is not asked."""
    from driftline.streams.kafka.connection import client_options  # noqa: PLC0415 - the other commands need no TLS

    client_options(settings_of(context).kafka)
    source = context.find_root().params.get("config") or "the defaults"
    say(f"ok: {source} and the environment's DRIFTLINE_ variables")


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file."""
    from driftline.streams.config.document import schema as document  # noqa: PLC0415 - has the command's name

    click.echo(json.dumps(document(), indent=2))


@config.command()
@click.pass_context
def show(context: click.Context) -> None:
    """Print the configuration in force as a file for --config; secrets are masked."""
    from driftline.streams.config.document import shown  # noqa: PLC0415 - as above

    click.echo(shown(settings_of(context)), nl=False)
