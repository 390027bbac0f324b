"""A real Kafka that asks who we are: TLS, SCRAM and ACLs."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from driftline import PredictionLogger
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.errors import OperatorError
from driftline.streams.cli.main import run
from driftline.streams.config.secret import Secret
from driftline.streams.config.settings import Kafka, Settings
from driftline.streams.kafka.connection import KafkaUnreachable, probe
from driftline.streams.kafka.reader import TopicReader
from driftline.streams.kafka.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kafka
SCRIPT = Path(__file__).parents[1] / "scripts" / "kafka"
JARS = Path(__file__).parents[1] / ".kafka" / "lib"
PASSWORD = "correct horse"  # noqa: S105 - of a broker that lives as long as the test

PROPERTIES = """
listeners={listeners},SASL_SSL://127.0.0.1:{port}
advertised.listeners={advertised},SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={server}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:worker
"""


class Secured(NamedTuple):
    """A broker's secure listener; user `worker` may do everything, `stranger` nothing."""

    address: str
    cafile: str

    def kafka(self, user: str = "worker", password: str = PASSWORD) -> Kafka:
        return Kafka(
            bootstrap_servers=self.address,
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username=user,
            sasl_password=Secret(password),
            ssl_cafile=self.cafile,
        )


def script(command: str, directory: Path, *options: str) -> str:
    whole = [sys.executable, str(SCRIPT), command, "--dir", str(directory), *options]
    return subprocess.run(whole, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def certificate(directory: Path) -> Path:
    """Make a key and a self-signed certificate for 127.0.0.1; return the file with both."""
    subject = ["-subj", "/CN=kafka", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(openssl, check=True, capture_output=True)
    both = directory / "server.pem"
    both.write_text((directory / "key.pem").read_text() + (directory / "cert.pem").read_text())
    return both


def secure(properties: Path, port: int, server: Path) -> None:
    """Give a node that is down a second listener."""
    lines = properties.read_text().splitlines()
    told = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    own = PROPERTIES.format(
        listeners=told["listeners"], advertised=told["advertised.listeners"], port=port, server=server
    )
    replaced = {line.partition("=")[0] for line in own.split()}
    kept = [line for line in lines if line.partition("=")[0] not in replaced]
    properties.write_text("\n".join(kept) + own)


def add_users(bootstrap_servers: str, *users: str) -> None:
    java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", "kafka.admin.ConfigCommand"]
    secret = ["--add-config", f"SCRAM-SHA-512=[iterations=4096,password={PASSWORD}]"]
    change = [*java, "--bootstrap-server", bootstrap_servers, "--alter", *secret, "--entity-type", "users"]
    calls = [subprocess.Popen([*change, "--entity-name", user], stdout=subprocess.PIPE) for user in users]
    assert [(call.communicate()[0], call.returncode)[1] for call in calls] == [0] * len(users)


@pytest.fixture(scope="module")
def secured(java_and_maven: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:  # noqa: ARG001
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    directory = tmp_path_factory.mktemp("secured")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    try:
        script("up", directory, "--port", "0")
        script("down", directory)
        secure(directory / "node-1" / "server.properties", port, certificate(directory))
        add_users(script("up", directory), "worker", "stranger")
        yield Secured(f"127.0.0.1:{port}", str(directory / "cert.pem"))
    finally:
        script("down", directory)


def test_the_right_password_lets_everything_through(secured: Secured) -> None:
    async def scenario() -> None:
        kafka = secured.kafka()
        await create_topics(Settings(kafka=kafka), 2)
        async with PredictionLogger(kafka) as logger:
            await logger.log(model="m", version="v", features={"age": 41}, prediction=0.5, id="1")
        async with TopicReader(kafka, "predictions", Prediction, "beginning", "end") as predictions:
            assert [each.id async for each in predictions] == ["1"]

    asyncio.run(scenario())


def test_a_wrong_password_is_told_and_not_shown(secured: Secured) -> None:
    with pytest.raises(KafkaUnreachable, match=r"(?i)authentication") as caught:
        asyncio.run(probe(secured.kafka(password="wrong battery")))  # noqa: S106
    assert "wrong battery" not in str(caught.value)


def test_a_broker_that_nobody_vouches_for_is_refused(secured: Secured) -> None:
    kafka = msgspec.structs.replace(secured.kafka(), ssl_cafile=None)
    with pytest.raises(KafkaUnreachable, match="certificate verify failed"):
        asyncio.run(probe(kafka))


def test_a_broker_of_another_name_is_refused(secured: Secured) -> None:
    port = secured.address.partition(":")[2]
    kafka = msgspec.structs.replace(secured.kafka(), bootstrap_servers=f"localhost:{port}")
    with pytest.raises(KafkaUnreachable, match=r"(?i)hostname mismatch"):
        asyncio.run(probe(kafka))


def test_without_an_acl_the_message_says_so(secured: Secured) -> None:
    async def scenario() -> None:
        await create_topics(Settings(kafka=secured.kafka()), 2)
        async with PredictionLogger(secured.kafka("stranger")):
            pass

    with pytest.raises(OperatorError, match="no ACL to see it"):
        asyncio.run(scenario())
    with pytest.raises(OperatorError, match=r"ClusterAuthorizationFailed|TopicAuthorizationFailed"):
        asyncio.run(create_topics(Settings(kafka=secured.kafka("stranger")), 2))


def test_the_command_line_gets_in_by_file_and_environment(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    path = tmp_path / "driftline.toml"
    path.write_text(
        f"""
        [kafka]
        security_protocol = "SASL_SSL"
        sasl_mechanism = "SCRAM-SHA-512"
        sasl_password_file = "{tmp_path / "password"}"
        ssl_cafile = "{secured.cafile}"
        """
    )
    monkeypatch.setenv("DRIFTLINE_KAFKA__SASL_USERNAME", "worker")
    arguments = ["--config", str(path), "topics", "create", "--bootstrap-servers", secured.address]
    assert run(arguments) == 0
    assert "predictions" in capsys.readouterr().out
    (tmp_path / "password").write_text("wrong battery")
    assert run(arguments) == 3
    assert "wrong battery" not in capsys.readouterr().err
