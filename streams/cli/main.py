"""The command ``driftline``. Commands are imported when they are run, so that help answers at once."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from driftline.detectors.errors import OperatorError
from driftline.streams.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Lazy(NamedTuple):
    """A command that is not imported yet.

    Parameters
    ----------
    home
        Module and attribute, ``module:attribute``.
    summary
        Its line in the group's help.
    """

    home: str
    summary: str


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        """Import a command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].home.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        """Write the list of commands from their summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


EXIT_CODES = """\b
Exit codes:
  0    done
  1    unexpected: a fault of driftline's own, with a traceback
  2    the call, the configuration or a file is wrong; the message names the remedy
  3    no Kafka at the address within 10 seconds, or it lets nobody in; or none that
       took the last snapshot of a worker that was told to stop
  70   a worker stood still and ended itself, to be started again
  130  interrupted
"""


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar="DRIFTLINE_CONFIG",
    help="A TOML file; environment variables DRIFTLINE_<SECTION>__<KEY> go over it.",
)
@click.version_option(package_name="driftline")
def driftline(config: Path | None) -> None:
    """Find drift, outliers and bad data in the predictions of models in production, on Kafka."""


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Parameters
    ----------
    arguments
        What stands behind ``driftline`` on the command line.

    Returns
    -------
    The exit code, one of :data:`EXIT_CODES`.
    """
    try:
        return int(driftline.main(args=list(arguments), prog_name="driftline", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return 2
    except OperatorError as error:
        say(f"driftline: {error}", err=True)
        return _exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # click's answer to a reader that has seen enough, as `head`
            return 0
        raise


def main() -> None:
    """Run the command line of this process."""
    try:
        code = run(sys.argv[1:])
    except Exception:
        logging.getLogger("driftline").exception("unexpected: a fault of driftline's own")
        code = 1
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # A worker that failed may leave Faust's consumer thread behind, which would keep the process for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code(error: OperatorError) -> int:
    from driftline.streams.kafka.connection import KafkaFailed, KafkaUnreachable  # noqa: PLC0415 - help has no use for it

    return 3 if isinstance(error, (KafkaUnreachable, KafkaFailed)) else 2


COMMANDS: Mapping[str, Lazy] = {
    "demo": Lazy("driftline.streams.cli.demo:demo", "Watch drift being found in a made-up stream; needs no Kafka."),
    "topics": Lazy("driftline.streams.cli.topics:topics", "Make the topics."),
    "baseline": Lazy("driftline.streams.cli.baseline:baseline", "Build, publish and show baselines."),
    "worker": Lazy("driftline.streams.cli.worker:worker", "Watch the predictions topic until told to stop."),
    "publish": Lazy("driftline.streams.cli.publish:publish", "Publish files of predictions."),
    "alerts": Lazy("driftline.streams.cli.read:alerts", "Print alerts."),
    "windows": Lazy("driftline.streams.cli.read:windows", "Print the verdict on every judged window."),
    "dead-letters": Lazy("driftline.streams.cli.dead_letters:dead_letters", "Print records that could not be used."),
    "status": Lazy("driftline.streams.cli.status:status", "Show how far the workers are and what they reject."),
    "reset": Lazy("driftline.streams.cli.reset:reset", "Forget what the workers have made."),
    "config": Lazy("driftline.streams.cli.config:config", "Check, show and describe the configuration."),
}

if __name__ == "__main__":
    main()
