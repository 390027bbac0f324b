"""``driftline reset``: undo a wrong first try."""

from __future__ import annotations

import asyncio

import click

from driftline.streams.cli.options import answer_option, app_id_option, ask, bootstrap_option, settings_of
from driftline.streams.terminal import say, working

ALSO = ("windows", "alerts", "dead_letters", "predictions", "baselines")


@click.command()
@click.option(
    "--also",
    multiple=True,
    type=click.Choice(ALSO),
    metavar="TOPIC",
    help=f"Empty this topic too: {', '.join(ALSO)}. Give it once for each.",
)
@answer_option
@app_id_option
@bootstrap_option
@click.pass_context
def reset(
    context: click.Context, also: tuple[str, ...], answer: str, app_id: str | None, bootstrap_servers: str | None
) -> None:
    """Forget what the workers have made, so that they read the predictions from the beginning again.

    Empties the changelogs and the topic of partial counts, and sets the group back. The workers must be stopped. What
    services and people have published, predictions and baselines, stays unless --also names it.
    """
    from driftline.streams.client import resetting  # noqa: PLC0415 - aiokafka

    settings = settings_of(context, bootstrap_servers, app_id)
    emptied = asyncio.run(resetting.to_be_emptied(settings, also))
    say(f"of the workers {settings.worker.app_id!r} this empties, for good:")
    width = max((len(each.spec.name) for each in emptied), default=0)
    for each in emptied:
        say(f"  {each.spec.name:<{width}}  {each.records} records")
    say("and it sets the group's offsets back to the beginning")
    ask("go on?", answer)
    with working("emptying"):
        asyncio.run(resetting.reset(settings, emptied))
    say("done; start the workers: they read the predictions from the beginning")
