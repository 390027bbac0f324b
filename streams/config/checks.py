"""What no type can say about the configuration: which values don't go together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftline.streams.config.settings import Kafka, Settings, Topics


class Misfit(NamedTuple):
    """A value that does not go with the others.

    Parameters
    ----------
    key, value
        Where it stands and what it is.
    remedy
        What to do about it.
    """

    key: str
    value: Any
    remedy: str


def misfits(settings: Settings) -> Iterator[Misfit]:
    """Yield the values that do not go together, the most basic first."""
    kafka = settings.kafka
    if not all(ADDRESS.fullmatch(server.strip()) for server in kafka.bootstrap_servers.split(",")):
        yield Misfit("kafka.bootstrap_servers", kafka.bootstrap_servers, "write host:port, several with commas")
    yield from _about_passwords(kafka)
    yield from _about_certificates(kafka)
    yield from _unused(kafka)
    yield from _about_topics(settings.topics)


def _about_passwords(kafka: Kafka) -> Iterator[Misfit]:
    passwords = (kafka.sasl_password, kafka.sasl_password_file)
    complete = kafka.sasl_mechanism is not None and kafka.sasl_username is not None and passwords != (None, None)
    if kafka.uses_sasl and not complete:
        remedy = "needs kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password_file too"
        yield Misfit("kafka.security_protocol", kafka.security_protocol, remedy)
    if kafka.security_protocol == "SASL_PLAINTEXT" and kafka.sasl_mechanism == "PLAIN":
        remedy = "would send the password readable for everybody; use SASL_SSL, or SCRAM-SHA-512"
        yield Misfit("kafka.sasl_mechanism", kafka.sasl_mechanism, remedy)
    if None not in passwords:
        remedy = "the environment has the password itself too (DRIFTLINE_KAFKA__SASL_PASSWORD); choose one"
        yield Misfit("kafka.sasl_password_file", kafka.sasl_password_file, remedy)


def _about_certificates(kafka: Kafka) -> Iterator[Misfit]:
    if kafka.ssl_certfile is not None and kafka.ssl_keyfile is None:
        yield Misfit("kafka.ssl_certfile", kafka.ssl_certfile, "name its key in kafka.ssl_keyfile")
    if kafka.ssl_keyfile is not None and kafka.ssl_certfile is None:
        yield Misfit("kafka.ssl_keyfile", kafka.ssl_keyfile, "name its certificate in kafka.ssl_certfile")


def _unused(kafka: Kafka) -> Iterator[Misfit]:
    """Keys that the protocol would ignore: whoever set them believes in a protection that is not there."""
    unused = {"sasl_": "SASL_SSL"} if not kafka.uses_sasl else {}
    unused |= {"ssl_": "SSL or SASL_SSL"} if not kafka.uses_tls else {}
    for key, value in msgspec.structs.asdict(kafka).items():
        for prefix, better in unused.items():
            if key.startswith(prefix) and value is not None:
                remedy = f"kafka.security_protocol {kafka.security_protocol} has no use for it; set that to {better}"
                yield Misfit(f"kafka.{key}", value, remedy)


def _about_topics(topics: Topics) -> Iterator[Misfit]:
    names = msgspec.structs.asdict(topics)
    for key, name in names.items():
        if list(names.values()).count(name) > 1:
            yield Misfit(f"topics.{key}", name, "another topic has this name too; each needs its own")


PORT = r"(?:6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[1-5]?\d{1,4})"
ADDRESS = re.compile(rf"(?:\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):{PORT}")
