"""What `pip install` gives: the wheel, in an environment that has what the wheel asks for and nothing else."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "driftline", "detectors", "streams")
SLOW_TO_IMPORT = ("faust", "river", "scipy", "numpy", "aiokafka", "duckdb", "prometheus_client")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the tree stays clean and an old build/ adds nothing."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        if (ROOT / name).is_dir():
            caches = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=caches)
        else:
            shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", out, copy], check=True)
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a new environment: the wheel installed, beside it links to what it requires, direct or not."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    paths = sysconfig.get_paths("venv", vars={"base": str(home), "platbase": str(home)})
    pip = [sys.executable, "-m", "pip", "--python", str(Path(paths["scripts"]) / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    for name in required(metadata(wheel).get_all("Requires-Dist", [])):
        link(importlib.metadata.distribution(name), Path(paths["purelib"]))
    return Path(paths["scripts"]) / "python"


def metadata(wheel: Path) -> importlib.metadata.PackageMetadata:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())  # type: ignore[return-value]  # as importlib.metadata


def required(texts: list[str]) -> set[str]:
    """Return the distributions that these requirements bring, without the extras that nobody asked for."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in texts]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        new = requirement.name not in found
        found.add(requirement.name)
        for text in importlib.metadata.requires(requirement.name) or []:
            waiting += [(Requirement(text), each) for each in requirement.extras]
            waiting += [(Requirement(text), "")] if new else []
    return found


def link(distribution: importlib.metadata.Distribution, target: Path) -> None:
    """Make an installed distribution importable from another environment."""
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        if not (target / top).exists():
            (target / top).symlink_to(Path(str(distribution.locate_file(top))))


def ran(python: Path, code: str, directory: Path) -> str:
    """Return what a program prints that runs isolated, elsewhere."""
    done = subprocess.run([python, "-I", "-c", code], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_wheel_installs_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {"driftline", f"{wheel.name.rsplit('-', 3)[0]}.dist-info"}
    modules = {name for name in names if name.startswith("driftline/")}
    sources = [*(ROOT / "detectors").rglob("*.py"), *(ROOT / "streams").rglob("*.py")]
    wanted = {f"driftline/{path.relative_to(ROOT).as_posix()}" for path in sources}
    assert modules == wanted | {"driftline/__init__.py", "driftline/py.typed"}


def test_the_wheel_says_under_which_licence_and_brings_its_text(wheel: Path) -> None:
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_it_is_imported_from_the_wheel(python: Path, tmp_path: Path) -> None:
    found = Path(ran(python, "import driftline; print(driftline.__file__)", tmp_path))
    assert found.is_relative_to(python.parent.parent)
    assert not found.is_relative_to(ROOT)
    version = ran(python, "import driftline; print(driftline.__version__)", tmp_path)
    assert version == importlib.metadata.version("driftline")


def test_it_lacks_what_it_does_not_require(python: Path, tmp_path: Path) -> None:
    """Or the next test would show nothing."""
    code = "import importlib.util as u; print([n for n in ('pytest', 'duckdb', 'confluent_kafka') if u.find_spec(n)])"
    assert ran(python, code, tmp_path) == "[]"


def test_every_module_imports_with_what_the_wheel_requires(python: Path, tmp_path: Path) -> None:
    code = """if True:
        import importlib, pkgutil, driftline
        modules = [each.name for each in pkgutil.walk_packages(driftline.__path__, "driftline.")]
        for name in modules:
            importlib.import_module(name)
        print(len(modules))
    """
    sources = [*(ROOT / "detectors").rglob("*.py"), *(ROOT / "streams").rglob("*.py")]
    assert int(ran(python, code, tmp_path)) == len(sources)


def test_importing_the_package_loads_nothing_heavy(python: Path, tmp_path: Path) -> None:
    code = "import sys, driftline; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(ran(python, code, tmp_path).split())
    assert "driftline" in loaded
    assert not loaded & set(SLOW_TO_IMPORT)


def test_the_public_names_are_there_without_faust_river_or_scipy(python: Path, tmp_path: Path) -> None:
    code = """if True:
        import sys, driftline
        for name in driftline.__all__:
            getattr(driftline, name)
        print([name for name in ("faust", "river", "scipy") if name in sys.modules])
    """
    assert ran(python, code, tmp_path) == "[]"


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    for arguments, said in ((["--help"], "Commands:"), (["--version"], importlib.metadata.version("driftline"))):
        done = subprocess.run(
            [python.parent / "driftline", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        assert said in done.stdout
