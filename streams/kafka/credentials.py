"""Certificates and passwords from the files that the configuration names."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from driftline.detectors.errors import OperatorError

if TYPE_CHECKING:
    from driftline.streams.config.settings import Kafka


def tls(kafka: Kafka) -> ssl.SSLContext:
    """Return a context that checks the broker's certificate and its host name, by Python's defaults."""
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    except OSError as error:
        raise OperatorError(f"kafka.ssl_cafile = {kafka.ssl_cafile!r}: {error}; name a PEM file") from error
    if kafka.ssl_certfile is not None:
        try:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
        except OSError as error:
            files = f"kafka.ssl_certfile = {kafka.ssl_certfile!r}, kafka.ssl_keyfile = {kafka.ssl_keyfile!r}"
            raise OperatorError(f"{files}: {error}; name PEM files that belong together") from error
    return context


def password(kafka: Kafka) -> str:
    """Return the password, from wherever the configuration has it."""
    if kafka.sasl_password is not None:
        return kafka.sasl_password.reveal()
    path = Path(str(kafka.sasl_password_file))
    try:
        found = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise OperatorError(f"kafka.sasl_password_file = {str(path)!r}: {reason}; name a readable file") from error
    if not found:
        raise OperatorError(f"kafka.sasl_password_file = {str(path)!r}: is empty; write the password into it")
    return found
