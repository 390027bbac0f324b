"""``driftline topics``: make the topics."""

from __future__ import annotations

import asyncio

import click

from driftline.streams.cli.options import app_id_option, bootstrap_option, settings_of
from driftline.streams.kafka.topics import DEFAULT_PARTITIONS, create_topics
from driftline.streams.terminal import say


@click.group()
def topics() -> None:
    """Make the topics."""


@topics.command()
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Partitions of the predictions topic. [default: as many as it has, {DEFAULT_PARTITIONS} where it is missing]",
)
@app_id_option
@bootstrap_option
@click.pass_context
def create(context: click.Context, partitions: int | None, app_id: str | None, bootstrap_servers: str | None) -> None:
    """Make the topics that are missing; those that exist stay as they are."""
    found = asyncio.run(create_topics(settings_of(context, bootstrap_servers, app_id), partitions))
    width = max(len(topic.name) for topic in found)
    for topic in found:
        outcome = "existed" if topic.existed else "created"
        say(f"{outcome}  {topic.name:<{width}}  {topic.partitions} partitions")
