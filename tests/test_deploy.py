"""What can be checked of the deployment without a container engine: syntax, and that every name leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from driftline.streams.cli.main import driftline
from driftline.streams.config.settings import Settings, load_settings
from driftline.streams.observability.health import PORT

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
OWN_VARIABLE = "DRIFTLINE_CONFIG"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert "version" not in document  # obsolete: compose warns of it
    found: dict[str, Any] = document["services"]
    return found


@pytest.fixture(scope="module")
def ours(services: dict[str, Any]) -> dict[str, Any]:
    """Services that run driftline."""
    found = {name: service for name, service in services.items() if "build" in service}
    assert found.keys() == {"topics", "worker"}
    return found


def instructions() -> list[tuple[str, str]]:
    """Return name and argument of each instruction of the Dockerfile, continuation lines joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in lines)]


def parsed(arguments: list[str]) -> click.Context:
    """Return what the command line makes of these arguments, without running the command.

    Raises
    ------
    click.UsageError
        For a command or an option that does not exist.
    """
    context = driftline.make_context("driftline", list(arguments))
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


# Every file that is named exists.


def test_mounted_files_exist_and_go_read_only(services: dict[str, Any]) -> None:
    mounts = [mount.split(":") for service in services.values() for mount in service.get("volumes", [])]
    assert len(mounts) >= 3
    for source, _, mode in mounts:
        assert (ROOT / source).is_file(), source
        assert mode == "ro"


def test_the_image_is_built_from_files_that_exist(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert (ROOT / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["image"] == "driftline"


def copied() -> list[str]:
    """Return what the Dockerfile copies out of the repository."""
    arguments = [argument.split() for name, argument in instructions() if name == "COPY"]
    return [source for words in arguments if not words[0].startswith("--") for source in words[:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_the_dockerfile_copies_exists_and_is_sent_to_the_builder(source: str) -> None:
    assert (ROOT / source).exists()
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    last = [rule for rule in rules if fnmatch(source, rule.removeprefix("!")) or rule == "*"][-1]
    assert last.startswith("!"), f"{source} is kept out by {last}"


def test_the_builder_is_sent_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert {rule.removeprefix("!") for rule in rules} == set(copied())


# Every command that is called exists.


def test_compose_calls_real_commands(ours: dict[str, Any]) -> None:
    called = {name: parsed(service["command"]) for name, service in ours.items()}
    assert called["topics"].command.name == "create"
    assert called["topics"].params["partitions"] == 4
    assert called["worker"].command.name == "worker"


def test_a_command_that_does_not_exist_would_be_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed(["topics", "make"])
    with pytest.raises(click.UsageError):
        parsed(["worker", "--partitions", "4"])


def test_the_image_runs_the_command_line() -> None:
    found = dict(instructions())
    assert json.loads(found["ENTRYPOINT"]) == ["driftline"]
    assert json.loads(found["CMD"]) == ["--help"]


@pytest.mark.parametrize("path", ["docs/operations.md", "docker-compose.yml"])
def test_documents_call_real_commands(path: str) -> None:
    lines = re.findall(r"^(?: {4}|#   )(driftline [a-z-].*)", (ROOT / path).read_text(), re.MULTILINE)
    assert lines
    for line in lines:
        words = shlex.split(line.partition("|")[0], comments=True)
        parsed(words[1:])


# Every variable is a key of the configuration.


def test_the_environment_is_understood(ours: dict[str, Any]) -> None:
    for service in ours.values():
        settings = load_settings(DEPLOY / "driftline.toml", service["environment"])
        assert settings.kafka.bootstrap_servers == "kafka:19092"
        assert settings.worker.metrics_host == "0.0.0.0"  # noqa: S104 - inside a container


def test_the_configuration_stands_where_the_variable_says(ours: dict[str, Any]) -> None:
    for service in ours.values():
        targets = [mount.split(":")[1] for mount in service["volumes"]]
        assert service["environment"][OWN_VARIABLE] in targets


# The example configuration.


def test_the_example_changes_nothing() -> None:
    assert load_settings(DEPLOY / "driftline.toml", {}) == explicit(Settings())


def explicit(settings: Settings) -> Settings:
    """Return these settings with the one rule that the example spells out, and the port: containers have their own."""
    document = {
        "DRIFTLINE_PLAN__DETECTORS": '{"marginal": {"enabled": true, "threshold": 0.00525}}',
        "DRIFTLINE_WORKER__METRICS_PORT": str(PORT),
    }
    assert settings.plan.rule("marginal") == load_settings(None, document).plan.rule("marginal")
    return load_settings(None, document)


def test_what_is_off_in_the_example_can_be_switched_on(tmp_path: Path) -> None:
    text = (DEPLOY / "driftline.toml").read_text()
    switched, n = re.subn(r"^# (?=\[[\w.]+\]|\w+ = )", "", text, flags=re.MULTILINE)
    assert n >= 12
    path = tmp_path / "driftline.toml"
    path.write_text(switched)
    settings = load_settings(path, {})
    assert settings.kafka.sasl_mechanism == "SCRAM-SHA-512"
    assert settings.plan.rule("range", "churn", "age").high == 110
    assert settings.plan.threshold("psi") == 0.25


# Addresses and ports go together.


def test_services_wait_for_services_that_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        assert set(service.get("depends_on", {})) <= services.keys()


def test_ports_are_open_on_this_machine_only(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) >= 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_workers_find_the_broker_where_it_says_it_is(services: dict[str, Any], ours: dict[str, Any]) -> None:
    told = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    addresses = dict(listener.split("://") for listener in told)
    assert {service["environment"]["DRIFTLINE_KAFKA__BOOTSTRAP_SERVERS"] for service in ours.values()} == {
        addresses["INTERNAL"]
    }
    assert addresses["HOST"] == Settings().kafka.bootstrap_servers
    assert f"127.0.0.1:{addresses['HOST'].split(':')[1]}:9092" in services["kafka"]["ports"]


def test_every_listener_of_the_broker_has_its_protocol(services: dict[str, Any]) -> None:
    environment = services["kafka"]["environment"]
    protocols = dict(each.split(":") for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    listeners = dict(each.split("://") for each in environment["KAFKA_LISTENERS"].split(","))
    assert protocols.keys() == listeners.keys()
    controller = listeners[environment["KAFKA_CONTROLLER_LISTENER_NAMES"]]
    assert environment["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"{environment['KAFKA_NODE_ID']}@kafka{controller}"


def test_prometheus_scrapes_the_workers(services: dict[str, Any]) -> None:
    document = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    [job] = document["scrape_configs"]
    [discovery] = job["dns_sd_configs"]
    assert set(discovery["names"]) <= services.keys()
    port = load_settings(DEPLOY / "driftline.toml", services["worker"]["environment"]).worker.metrics_port
    assert discovery["port"] == port
    assert f"127.0.0.1:{port}/readyz" in services["worker"]["healthcheck"]["test"][-1]
    assert ("EXPOSE", str(port)) in instructions()


# Nobody is root, nothing is fetched unpinned.


def test_the_image_runs_as_nobody_and_installs_by_hash_only() -> None:
    assert ("USER", "65532:65532") in instructions()
    last_stage = [name for name, _ in instructions()][::-1].index("FROM")
    assert "RUN" not in [name for name, _ in instructions()[-last_stage:]]
    for name, argument in instructions():
        for call in re.findall(r"pip install[^&]*", argument) if name == "RUN" else []:
            assert "--require-hashes" in call or "--no-index" in call


def test_the_build_takes_setuptools_out_of_the_lock() -> None:
    """The Dockerfile does it with sed, by the same two patterns."""
    [line] = [argument for _, argument in instructions() if argument.startswith("sed")]
    first, last = re.findall(r"/([^/]+)/", line.partition("&&")[0])
    lines = iter((ROOT / "requirements.lock").read_text().splitlines())
    start = next(line for line in lines if re.search(first, line))
    block = [start]
    while not re.search(last, block[-1]):
        block.append(next(lines))
    assert [each for each in block if "==" in each] == [start]
    assert sum("--hash=sha256:" in each for each in block) >= 1


def test_containers_of_ours_can_write_nothing_but_tmp(ours: dict[str, Any]) -> None:
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's
