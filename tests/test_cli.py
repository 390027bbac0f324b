from __future__ import annotations

import importlib
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from driftline.streams.cli.main import COMMANDS, EXIT_CODES, driftline, run
from tests.logs import baselines

if TYPE_CHECKING:
    from collections.abc import Iterator

MANUAL = Path(__file__).parents[1] / "docs" / "cli.md"


@pytest.fixture(autouse=True)
def _no_variables_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DRIFTLINE_")]:
        monkeypatch.delenv(name)


def test_help_imports_no_heavy_package() -> None:
    heavy = "faust", "river", "scipy", "numpy", "aiokafka", "msgspec"
    for command in ([], *([name] for name in COMMANDS if name not in ("baseline", "demo"))):
        program = f"""if True:
            import sys
            from driftline.streams.cli.main import run
            code = run({[*command, "--help"]})
            sys.exit(code or repr([name for name in {heavy[: 6 if not command else 3]} if name in sys.modules]))
        """
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stderr.strip() == "[]", command
        assert done.stdout.startswith("Usage: driftline")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_its_summary_is_the_lists(name: str) -> None:
    module, _, attribute = COMMANDS[name].home.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert (command.help or "").lower().startswith(COMMANDS[name].summary.lower().rstrip("."))


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["config", "show"], ["config", "schema"], ["baseline", "show", "baseline.json"], ["alerts", "--help"]],
    ids=" ".join,
)
def test_a_command_whose_output_is_closed_ends_in_peace(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "baseline.json").write_bytes(baselines()[0].to_json())
    reader, writer = os.pipe()
    os.close(reader)  # as behind `| head -0`: the first line meets nobody
    done = subprocess.run(
        [sys.executable, "-m", "driftline.streams.cli.main", *arguments],
        cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        elif command is not None:
            yield " ".join((*path, name)), command


def test_the_manual_has_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    text = MANUAL.read_text(encoding="utf-8")
    for name, command in commands(driftline):
        section = re.search(rf"^### `driftline {name}\b.*?(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, f"docs/cli.md has no section for {name}"
        for parameter in command.params:
            for option in parameter.opts if isinstance(parameter, click.Option) else []:
                assert f"`{option}" in section[0], f"docs/cli.md, {name}: {option} is missing"
    for code in re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE):
        assert f"| {code} |" in text
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wrker"], "No such command 'wrker'"),
        (["alerts", "--form-beginning"], "--from-beginning"),
        (["--config", "no.toml", "config", "check"], "no.toml: No such file"),
        (["topics", "create", "--partitions", "0"], "0 is not in the range"),
        (["alerts", "--bootstrap-servers", "broker"], "kafka.bootstrap_servers = 'broker': write host:port"),
        (["worker", "--app-id", "a b"], "worker.app_id = 'a b'"),
    ],
)
def test_the_operators_mistakes_are_answered_in_short(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_an_option_goes_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "driftline.toml"
    path.write_text("[kafka]\nbootstrap_servers = 'wrong'\n[worker]\napp_id = 'blue'")
    monkeypatch.setenv("DRIFTLINE_CONFIG", str(path))
    assert run(["config", "check"]) == 2
    monkeypatch.setenv("DRIFTLINE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert run(["config", "check"]) == 0
    assert str(path) in capsys.readouterr().out
    assert run(["config", "show"]) == 0
    shown = capsys.readouterr().out
    assert 'bootstrap_servers = "127.0.0.1:1"' in shown
    assert 'app_id = "blue"' in shown
    assert run(["alerts", "--bootstrap-servers", "127.0.0.1:2"]) == 3
    assert "'127.0.0.1:2'" in capsys.readouterr().err


def test_check_looks_into_the_files_that_the_configuration_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DRIFTLINE_KAFKA__SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("DRIFTLINE_KAFKA__SSL_CAFILE", "/nowhere/ca.pem")
    assert run(["config", "check"]) == 2
    assert "kafka.ssl_cafile = '/nowhere/ca.pem'" in capsys.readouterr().err


def test_the_schema_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$defs"]["Kafka"]


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["topics", "create"],
        ["alerts"],
        ["windows"],
        ["windows", "--summary"],
        ["publish", "rows.jsonl"],
        ["dead-letters"],
        ["dead-letters", "--summary"],
        ["dead-letters", "--resend", "--yes"],
        ["status"],
        ["reset", "--yes"],
    ],
    ids=" ".join,
)
def test_without_kafka_every_command_names_the_address(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    monkeypatch.chdir(tmp_path)
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    assert run([*command, "--bootstrap-servers", address]) == 3
    said = capsys.readouterr().err
    assert address in said
    assert "--bootstrap-servers" in said
