"""What the commands share: how they find their settings."""

from __future__ import annotations

import os

import click

from driftline.detectors.errors import OperatorError
from driftline.streams.config.settings import Settings, load_settings

bootstrap_option = click.option(
    "--bootstrap-servers",
    metavar="HOST:PORT,...",
    help="Where Kafka is; goes over the configuration's kafka.bootstrap_servers.",
)

app_id_option = click.option(
    "--app-id", metavar="NAME", help="Workers of one name share the work; goes over worker.app_id."
)

answer_option = click.option("--yes", "answer", flag_value="yes", default="", help="Do not ask.")


def ask(question: str, answer: str) -> None:
    """Go on only if a person agrees.

    Parameters
    ----------
    question
        What a person answers by y.
    answer
        What :data:`answer_option` says.

    Raises
    ------
    OperatorError
        Where nobody agrees.
    """
    try:
        agreed = answer == "yes" or click.confirm(question, err=True)
    except click.Abort:  # nobody there to be asked
        agreed = False
    if not agreed:
        raise OperatorError("nothing was done; to go on answer y, or give --yes")


def settings_of(context: click.Context, bootstrap_servers: str | None = None, app_id: str | None = None) -> Settings:
    """Return the settings of this call: the file, the environment over it, the options over both.

    Parameters
    ----------
    context
        The command's context.
    bootstrap_servers, app_id
        The options of these names, None where not given.

    Raises
    ------
    OperatorError
        Naming the key, its value and the remedy.
    """
    said = {"kafka.bootstrap_servers": bootstrap_servers, "worker.app_id": app_id}
    options = {key: value for key, value in said.items() if value is not None}
    return load_settings(context.find_root().params.get("config"), os.environ, options)
