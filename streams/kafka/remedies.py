"""Commands as a message names them, with the options that reach the same Kafka and the same workers again."""

from __future__ import annotations

from driftline.streams.config.settings import Kafka, Worker


def typed(words: str, kafka: Kafka, app_id: str = Worker().app_id) -> str:
    """Return a command to type, in backquotes.

    Whoever has a configuration file names it by ``--config`` or ``DRIFTLINE_CONFIG`` again; what options said is here.

    Parameters
    ----------
    words
        The command, as it stands behind ``driftline``.
    kafka, app_id
        What it is about; defaults are left out.

    Examples
    --------
    >>> typed("topics create", Kafka())
    '`driftline topics create`'
    >>> typed("topics create", Kafka(bootstrap_servers="kafka:9092"), "blue")
    '`driftline topics create --app-id blue --bootstrap-servers kafka:9092`'
    """
    options = [] if app_id == Worker().app_id else ["--app-id", app_id]
    if kafka.bootstrap_servers != Kafka().bootstrap_servers:
        options += ["--bootstrap-servers", kafka.bootstrap_servers.replace(" ", "")]
    return f"`{' '.join(['driftline', words, *options])}`"
