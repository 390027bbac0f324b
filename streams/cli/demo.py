"""``driftline demo``."""

from __future__ import annotations

import click

from driftline.streams.terminal import say


@click.command()
@click.option("--pace", default=0.9, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0))
def demo(pace: float) -> int:
    """Watch drift being found in a made-up stream; needs no Kafka.

    An embedded broker and a worker are started. A credit model's predictions are published, a window every so many
    seconds: first a clean half, then five faults in turn. At the end stands what found each fault, and how soon.
    """
    from driftline.streams.demo.run import DemoFailed, Scale, run_demo  # noqa: PLC0415 - numpy, scipy, aiokafka: 1 s

    try:
        run_demo(Scale(pace_s=pace), say)
    except DemoFailed as failure:
        click.echo(f"driftline: the demo failed: {failure}", err=True)
        return 1
    return 0
