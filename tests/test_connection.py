from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from driftline.detectors.errors import OperatorError
from driftline.streams.config.secret import Secret
from driftline.streams.config.settings import Kafka
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.kafka import connection
from driftline.streams.kafka.connection import KafkaUnreachable, client_options, opened, probe
from driftline.streams.worker.addresses import faust_credentials

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A directory with a self-signed certificate, cert.pem, and its key, key.pem."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files: list[str | Path] = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    openssl: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*openssl, *subject, *files], check=True, capture_output=True)
    return tmp_path


def sasl(protocol: Any, mechanism: Any) -> Kafka:
    return Kafka(security_protocol=protocol, sasl_mechanism=mechanism, sasl_username="me", sasl_password=Secret("pw"))


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_scram_without_encryption(mechanism: str) -> None:
    options = client_options(sasl("SASL_PLAINTEXT", mechanism))
    assert options["security_protocol"] == "SASL_PLAINTEXT"
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", "pw")
    assert "ssl_context" not in options


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_an_encrypted_connection_checks_certificate_and_host_name(mechanism: str) -> None:
    context = client_options(sasl("SASL_SSL", mechanism))["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_password_file_is_read_without_its_line_break(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("p w\n")
    kafka = Kafka(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="me",
        sasl_password_file=str(path),
    )
    assert client_options(kafka)["sasl_plain_password"] == "p w"  # noqa: S105
    path.write_text("\n")
    with pytest.raises(OperatorError, match=r"sasl_password_file = '.*password': is empty"):
        client_options(kafka)
    path.unlink()
    with pytest.raises(OperatorError, match=r"sasl_password_file = '.*password': No such file"):
        client_options(kafka)


def test_certificates_are_loaded_and_a_wrong_file_is_named(pem: Path) -> None:
    cert, key = str(pem / "cert.pem"), str(pem / "key.pem")
    kafka = Kafka(security_protocol="SSL", ssl_cafile=cert, ssl_certfile=cert, ssl_keyfile=key)
    (authority,) = client_options(kafka)["ssl_context"].get_ca_certs()
    assert authority["subject"] == ((("commonName", "localhost"),),)
    with pytest.raises(OperatorError, match=r"kafka\.ssl_cafile = '.*key\.pem'"):
        client_options(Kafka(security_protocol="SSL", ssl_cafile=key))
    with pytest.raises(OperatorError, match=r"kafka\.ssl_certfile = '.*', kafka\.ssl_keyfile = '.*cert\.pem'"):
        client_options(Kafka(security_protocol="SSL", ssl_certfile=cert, ssl_keyfile=cert))


@pytest.mark.parametrize(
    "kafka",
    [
        Kafka(),
        Kafka(security_protocol="SSL"),
        sasl("SASL_SSL", "PLAIN"),
        sasl("SASL_PLAINTEXT", "SCRAM-SHA-256"),
        sasl("SASL_SSL", "SCRAM-SHA-512"),
    ],
)
def test_faust_tells_aiokafka_the_same_as_we_do(kafka: Kafka) -> None:
    by_faust = dict(credentials_to_aiokafka_auth(faust_credentials(kafka)))
    ours = {key: value for key, value in client_options(kafka).items() if key not in ("bootstrap_servers", "client_id")}
    for options in (by_faust, ours):  # two contexts are never equal
        context = options.pop("ssl_context", None)
        options["tls"] = None if context is None else (context.verify_mode, context.check_hostname)
    assert by_faust == ours


def test_a_password_shows_in_no_credentials() -> None:
    credentials = faust_credentials(sasl("SASL_SSL", "PLAIN"))
    assert isinstance(credentials, faust.SASLCredentials)
    assert "pw" not in repr(credentials)


def refused_port() -> int:
    """A port that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@pytest.mark.parametrize("client", [AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient])
def test_a_refused_connection_names_address_and_remedy(client: type) -> None:
    async def connect() -> None:
        async with opened(client, Kafka(bootstrap_servers=address)):
            pass

    address = f"127.0.0.1:{refused_port()}"
    with pytest.raises(KafkaUnreachable, match=f"{re.escape(address)}.*--bootstrap-servers"):
        asyncio.run(connect())


@pytest.mark.parametrize("client", [AIOKafkaProducer, AIOKafkaConsumer, AIOKafkaAdminClient])
def test_a_server_that_takes_connections_and_never_answers_is_given_up(
    client: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect() -> None:
        async with opened(client, Kafka(bootstrap_servers=f"127.0.0.1:{silent.getsockname()[1]}")):
            pass

    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.2)
    waiting = closing(socket.create_server(("127.0.0.1", 0)))
    with waiting as silent, pytest.raises(KafkaUnreachable, match=r"no answer within 0\.2 s"):
        asyncio.run(connect())


@pytest.mark.embedded
def test_a_dead_host_in_the_list_does_not_matter() -> None:
    with embedded_broker({}) as broker:
        dead = f"127.0.0.1:{refused_port()}"
        with pytest.raises(KafkaUnreachable):  # alone it would
            asyncio.run(probe(Kafka(bootstrap_servers=dead)))
        asyncio.run(probe(Kafka(bootstrap_servers=f"{dead}, {broker.bootstrap_servers}")))


@pytest.mark.embedded
def test_the_wrong_protocol_is_unreachable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 1.0)
    with embedded_broker({}) as broker, pytest.raises(KafkaUnreachable, match=r"kafka\.security_protocol \(SSL\)"):
        asyncio.run(probe(Kafka(bootstrap_servers=broker.bootstrap_servers, security_protocol="SSL")))


@pytest.mark.embedded
def test_after_a_failure_nobody_waits_for_what_a_producer_can_not_send(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers)
        async with opened(AIOKafkaProducer, kafka, enable_idempotence=True) as producer:
            await producer.send_and_wait("topic", b"acknowledged")
            broker.set_down(1)
            await producer.send("topic", b"never acknowledged")
            raise OperatorError("failed")

    monkeypatch.setattr(connection, "CLOSE_TIMEOUT_S", 0.2)
    with embedded_broker({"topic": 1}) as broker:
        runner = asyncio.Runner()
        with pytest.raises(OperatorError, match="failed"):  # not the time-out: it would wait for ever
            runner.run(asyncio.wait_for(fail(), 60))
        broker.set_up(1)  # or the producer's task, which ignores its cancellation, would keep the loop
        runner.close()
