"""The rules of the house, held against the files as they are."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement

import driftline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_LINES, MOST_LINES_OF_A_TEST, MOST_BODY_LINES = 300, 500, 35
LONG_BODIES = {"streams/observability/metrics.py: __init__"}  # one line a metric


def is_python(path: Path) -> bool:
    if path.suffix == ".py":
        return True
    with path.open("rb") as file:
        return path.suffix == "" and b"python" in file.readline()


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file() and is_python(path)]
    assert found
    return sorted(found)


EVERYWHERE = ("detectors", "streams", "driftline", "scripts", "benchmarks", "tests")
PACKAGES = ("detectors", "streams", "driftline", "scripts", "benchmarks")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(node: ast.AST) -> Iterator[str]:
    """Yield every name that is imported, absolute and dotted, wherever the statement stands."""
    for each in ast.walk(node):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            yield from (f"{'.' * each.level}{each.module or ''}.{alias.name}" for alias in each.names)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("driftline", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def module_of(name: str, modules: set[str]) -> str | None:
    """The module that an imported name is, or lies in."""
    return next((each for each in (name, name.rpartition(".")[0]) if each in modules), None)


def touches(name: str, banned: str) -> bool:
    return name == banned or name.startswith(f"{banned}.")


# The core and the I/O layer.

NOT_IN_DETECTORS = (
    "driftline.streams",
    "aiohttp",
    "aiokafka",
    "asyncio",
    "confluent_kafka",
    "faust",
    "mode",
    "os",
    "pathlib",
    "prometheus_client",
    "socket",
    "subprocess",
    "threading",
    "time",
)


@pytest.mark.parametrize("path", sources("detectors"), ids=name_of)
def test_detectors_know_no_kafka_no_clock_and_no_files(path: Path) -> None:
    module = tree(path)
    found = {name for name in imports(module) for banned in NOT_IN_DETECTORS if touches(name, banned)}
    found |= {
        ast.unparse(node)
        for node in ast.walk(module)
        if (isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"))
        or (isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print", "input"))
    }
    assert not found


def test_all_detectors_together_load_no_kafka_client() -> None:
    modules = [module_name(path) for path in sources("detectors")]
    code = f"import sys, {', '.join(modules)}; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "driftline.detectors.online.halfspace" in loaded
    unwanted = ("driftline.streams", "faust", "mode", "aiokafka", "aiohttp", "confluent_kafka", "prometheus_client")
    assert not [name for name in loaded if any(touches(name, each) for each in unwanted)]


def at_import(module: ast.Module) -> ast.Module:
    """Return only what is imported when the module is: neither in functions nor for type checkers."""
    return ast.Module([node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)], [])


@pytest.mark.parametrize(("room", "part"), [("detectors", lambda module: module), ("streams", at_import)])
def test_the_modules_of_a_room_form_a_ladder(room: str, part: Callable[[ast.Module], ast.Module]) -> None:
    modules = {module_name(path) for path in sources(room)}
    ladder = {
        module_name(path): {own for name in imports(part(tree(path))) if (own := module_of(name, modules))}
        for path in sources(room)
    }
    assert sum(map(len, ladder.values())) > len(ladder)  # or the rule would hold because nothing is imported
    graphlib.TopologicalSorter(ladder).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize(
    "banned", ["unittest.mock", "pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "pytest_mock"]
)
def test_nothing_imports_mocks_or_pickles(banned: str) -> None:
    paths = sources(*filter(lambda folder: (ROOT / folder).exists(), EVERYWHERE))
    assert not [name_of(path) for path in paths if any(touches(name, banned) for name in imports(tree(path)))]


# Lint holds the rule too, and would notice.

VIOLATIONS = {
    "driftline.streams": "from driftline.streams import wire\n",
    "faust": "import faust\n",
    "aiokafka": "from aiokafka.errors import KafkaError\n",
    "pickle": "import pickle\n",
    "unittest.mock": "from unittest import mock\n",
    "time.time": "import time\n\nSTARTED = time.time()\n",
    "datetime.datetime.now": "from datetime import datetime\n\nSTARTED = datetime.now()\n",
}


def lint(room: str, code: str) -> set[str]:
    """Return the rules that ruff sees broken by a module of that room."""
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "json", "--no-cache", "--stdin-filename"]
    done = subprocess.run(
        [*command, ROOT / room / "violation.py", "-"], input=code, cwd=ROOT, check=False, capture_output=True, text=True
    )
    return {found["code"] for found in json.loads(done.stdout)}


def test_every_banned_name_has_its_violation_here() -> None:
    assert VIOLATIONS.keys() == PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"].keys()


@pytest.mark.parametrize("banned", VIOLATIONS)
def test_lint_refuses_a_banned_name_in_detectors(banned: str) -> None:
    assert "TID251" in lint("detectors", VIOLATIONS[banned])


def test_lint_lets_streams_use_kafka_but_still_no_pickle() -> None:
    assert "TID251" not in lint("streams", VIOLATIONS["aiokafka"])
    assert "S301" in lint("streams", "import pickle\n\npickle.loads(b'')\n")


# Small and flat.


def test_files_are_short() -> None:
    packages = [folder for folder in PACKAGES if (ROOT / folder).exists()]
    limits = [(path, MOST_LINES) for path in sources(*packages)]
    limits += [(path, MOST_LINES_OF_A_TEST) for path in sources("tests")]
    assert {name_of(path) for path, most in limits if len(path.read_text().splitlines()) > most} == set()


def test_bodies_are_short() -> None:
    packages = [folder for folder in PACKAGES if (ROOT / folder).exists()]
    bodies = {
        f"{name_of(path)}: {node.name}": body_lines(node)
        for path in sources(*packages)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    long = {name for name, lines in bodies.items() if lines > MOST_BODY_LINES}
    assert long == LONG_BODIES


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


# Exceptions to rules carry their reason.


def ignored_rules() -> Iterator[tuple[int, str]]:
    """Yield number and text of each line of pyproject.toml on which ruff is told to ignore something."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    starts = [lines.index("ignore = ["), lines.index("[tool.ruff.lint.per-file-ignores]")]
    for start in starts:
        for number, line in enumerate(lines[start + 1 :], start + 2):
            if line == "]" or line.startswith("["):
                break
            if re.search(r'"[A-Z]+[0-9]*"', line):
                yield number, line


def test_every_rule_that_is_ignored_has_its_reason_beside_it() -> None:
    rules = list(ignored_rules())
    assert len(rules) > len(PROJECT["tool"]["ruff"]["lint"]["ignore"])
    assert not [f"{number}: {line}" for number, line in rules if not re.search(r"#\s*\w.{3,}", line)]


NAKED = re.compile(r"#\s*(?:noqa(?!:\s*[A-Z]+\d+)|type:\s*ignore(?!\[[a-z-]+)|pragma)", re.IGNORECASE)


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("silenced", ["# noqa", "# noqa - why", "# type: ignore", "# type:ignore  # why"])
def test_the_pattern_sees_a_silenced_line_without_a_code(silenced: str) -> None:
    assert NAKED.search(silenced)


def test_every_silenced_line_says_which_rule() -> None:
    paths = sources(*filter(lambda folder: (ROOT / folder).exists(), EVERYWHERE))
    assert not [
        f"{name_of(path)}:{line}: {text}" for path in paths for line, text in comments(path) if NAKED.search(text)
    ]


# What is installed is what is written.


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    assert importlib.metadata.version("driftline") == PROJECT["project"]["version"] == driftline.__version__


def test_the_changelog_has_its_latest_version_on_top() -> None:
    headings = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = [tuple(map(int, heading.split("."))) for heading in headings[1:]]
    assert all(newer > older for newer, older in pairwise(released))


def locked(path: Path) -> dict[str, list[str]]:
    """Return the entries of a lock file: distribution to its texts, one for each Python that needs another version."""
    entries: dict[str, list[str]] = {}
    for entry in re.findall(r"^\S.*(?:\n[ ].*)*", path.read_text(), re.MULTILINE):
        entries.setdefault(re.split(r"[=\s]", entry)[0], []).append(entry)
    return entries


@pytest.mark.parametrize("path", [ROOT / "requirements.lock", ROOT / "deploy" / "requirements.lock"], ids=name_of)
def test_a_lock_pins_by_hash_and_names_no_host(path: Path) -> None:
    entries = locked(path)
    assert len(entries) > 30
    assert not [name for name, texts in entries.items() for text in texts if "--hash=sha256:" not in text]
    assert "://" not in path.read_text()


def test_the_image_gets_what_the_tests_get() -> None:
    everything, runtime = (locked(ROOT / folder / "requirements.lock") for folder in (".", "deploy"))
    assert not [name for name, texts in runtime.items() if everything.get(name) != texts]
    assert not runtime.keys() & {"pytest", "mypy", "ruff", "hypothesis", "setuptools"}


@pytest.mark.parametrize("text", [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]])
def test_the_lock_has_what_pyproject_asks_for(text: str) -> None:
    requirement = Requirement(text)
    name = requirement.name.lower().replace("_", "-")
    versions = [entry.split("==")[1].split()[0] for entry in locked(ROOT / "requirements.lock")[name]]
    assert versions
    assert all(version in requirement.specifier for version in versions), f"run `make lock`: {versions}"
