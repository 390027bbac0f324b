"""Where Kafka is, as Faust wants it told."""

from typing import Any

import faust

from driftline.streams.config.settings import Kafka
from driftline.streams.kafka.connection import servers
from driftline.streams.kafka.credentials import password, tls


def faust_broker(kafka: Kafka) -> str:
    """Return the broker address as Faust wants it.

    Examples
    --------
    >>> faust_broker(Kafka(bootstrap_servers="one:9092, two:9092"))
    'kafka://one:9092;kafka://two:9092'
    """
    return ";".join(f"kafka://{server}" for server in servers(kafka))


def faust_credentials(kafka: Kafka) -> Any:
    """Return Faust's ``broker_credentials``; None for a plaintext connection.

    Raises
    ------
    OperatorError
        Where a file that the configuration names can't be used.
    """
    if kafka.security_protocol == "PLAINTEXT":
        return None
    context = tls(kafka) if kafka.uses_tls else None
    if not kafka.uses_sasl:
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=kafka.sasl_username,
        password=password(kafka),
        mechanism=kafka.sasl_mechanism,
        ssl_context=context,
    )
