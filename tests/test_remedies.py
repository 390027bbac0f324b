"""Every command that a message or a page names is one that can be typed."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from driftline.detectors.errors import BUILD_BASELINE, START_OVER
from driftline.streams.cli.main import driftline
from driftline.streams.config.settings import Kafka
from driftline.streams.kafka.remedies import typed

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
STANDS_FOR = {
    "N": "3",
    "SECONDS": "1",
    "TIME": "2025-01-31T00:00Z",
    "HOST:PORT,...": "localhost:9092",
    "TOPIC": "windows",
}


def messages(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings; what is filled in stands as NAME."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(module) if isinstance(node, documented) and node.body
            and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    parts = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typed" and isinstance(node.args[0], ast.Constant):
            yield typed(str(node.args[0].value), Kafka())
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "NAME" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (docs | parts):
            yield node.value


def commands(text: str) -> list[str]:
    """What stands in backquotes or on an indented line of its own, and begins with the program's name."""
    quoted = re.findall(r"`driftline( [^`]*)`", text)
    return [each for each in quoted if not re.fullmatch(r" (COMMAND.*|[\w-]+:.*)", each)]


def said() -> list[tuple[str, str]]:
    found = [
        (path.name, command)
        for folder in ("detectors", "streams")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for text in messages(path)
        for command in commands(text)
    ]
    built = [BUILD_BASELINE, START_OVER, typed("topics create", Kafka(bootstrap_servers="kafka:9092, b:1"), "blue")]
    return [*found, *(("built", command) for text in built for command in commands(text))]


def documented() -> list[tuple[str, str]]:
    """The commands of the manual: code lines and those in backquotes, without what a shell does with them."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        lines = re.findall(r"^(?:    )?(?:\$ )?(?:\.venv/bin/)?driftline( [a-z-].*)$", text, re.MULTILINE)
        found += [(path.name, re.split(r" [|>#&]", line)[0]) for line in lines]
        found += [(path.name, command) for command in commands(text)]
    return found


def parse(arguments: list[str]) -> click.Command:
    """Let the real command line read a call, without running it; return the command that it is one of."""
    context = driftline.make_context("driftline", list(arguments))
    command: click.Command = driftline
    rest = [*context._protected_args, *context.args]
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, found.make_context(name, list(rest), parent=context)
        if isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
    return command


@pytest.mark.parametrize(("place", "command"), sorted(set(said())))
def test_every_remedy_in_a_message_can_be_typed(place: str, command: str) -> None:
    del place
    words = shlex.split(command)
    assert parse([STANDS_FOR.get(word, word) for word in words]).name in words


@pytest.mark.parametrize(("place", "command"), sorted(set(documented())))
def test_every_command_of_the_manual_is_one(place: str, command: str) -> None:
    """What the manual names in passing may leave arguments out; it names no command or option that is not there."""
    del place
    words = shlex.split(command.replace("...", ""))
    found = None
    try:
        found = parse([STANDS_FOR.get(word, word) for word in words])
    except click.MissingParameter as error:
        found = error.ctx.command if error.ctx else None
    assert found is not None
    assert found.name in (*words, "driftline")


def test_there_are_remedies_to_type_and_a_wrong_one_is_found() -> None:
    assert len(said()) >= 10
    for wrong in ("topics make", "topics create --app_id x", "baseline build", "reset --also everything"):
        with pytest.raises(click.UsageError):
            parse(shlex.split(wrong))


def test_a_remedy_says_what_options_had_said() -> None:
    assert typed("reset", Kafka(), "driftline") == "`driftline reset`"
    assert typed("reset", Kafka(bootstrap_servers="a:1, b:2"), "x") == (
        "`driftline reset --app-id x --bootstrap-servers a:1,b:2`"
    )


@pytest.mark.parametrize("extra", ["embedded", "files"])
def test_what_a_message_wants_installed_is_there_to_be_installed(extra: str) -> None:
    assert f'\n{extra} = ["' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
