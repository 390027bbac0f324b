"""Text files in UTF-8: those in another encoding, or compressed in a way that only Python reads, are copied first."""

from __future__ import annotations

import codecs
import gzip
import io
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}
_PACKED = {b"\x1f\x8b": "gzip; let its name end in .gz", b"\x28\xb5\x2f\xfd": "Zstandard; let its name end in .zst"}
_PACKED |= {b"PK\x03\x04": "zip; unpack it"}
FALLBACK = "windows-1252"
"""What a file without a mark is read as that is no UTF-8. It has latin-1's letters, and more signs."""


class Encoded(NamedTuple):
    """A file that can be read as UTF-8.

    Parameters
    ----------
    path
        The file, or a copy of it.
    encoding
        What it was written in: ``utf-8``, ``utf-16`` or ``windows-1252``.
    """

    path: Path
    encoding: str


def as_utf8(path: Path, directory: Path) -> Encoded:
    """Find a file's encoding, and copy it as UTF-8 where it is in another one.

    Parameters
    ----------
    path
        The file, perhaps compressed as its ending says.
    directory
        Where a copy goes.

    Raises
    ------
    OSError
        Where it can't be read.
    """
    if path.suffix.lower() == ".zst":
        path = _without_zstandard(path, directory)
    encoding = encoding_of(path)
    if encoding == "utf-8":
        return Encoded(path, encoding)
    copy = _new_file(directory)
    with unpacked(path) as source, copy.open("w", encoding="utf-8", newline="") as target:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        while chunk := source.read(CHUNK):
            target.write(decoder.decode(chunk))
        target.write(decoder.decode(b"", final=True))
    return Encoded(copy, encoding)


def _without_zstandard(path: Path, directory: Path) -> Path:
    """Unpack a file."""
    import cramjam  # noqa: PLC0415 - aiokafka brings it; only these files need it

    with path.open("rb"):  # cramjam says less about a file that is not there
        pass
    copy = _new_file(directory)
    try:
        cramjam.zstd.decompress_into(cramjam.File(str(path)), cramjam.File(str(copy), write=True, truncate=True))
    except cramjam.DecompressionError as error:
        raise OSError(None, f"is not packed by Zstandard: {error}") from error
    return copy


def _new_file(directory: Path) -> Path:
    return directory / f"{len(list(directory.iterdir()))}.txt"


def encoding_of(path: Path) -> str:
    """Which encoding a file is in: by its mark, by zero bytes beside letters, UTF-8 if it is that, else Windows-1252."""
    with unpacked(path) as file:
        start = file.read(CHUNK)
        for mark, packing in _PACKED.items():
            if start.startswith(mark):
                raise OSError(None, f"is packed by {packing}")
        for mark, encoding in _MARKS.items():
            if start.startswith(mark) and encoding == "utf-16":
                return encoding
        for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if start[first:200:2].count(0) > len(start[first:200:2]) / 2:
                return encoding
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while start:
                decoder.decode(start)
                start = file.read(CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return FALLBACK
    return "utf-8"


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file's bytes, unpacked where its ending says gzip."""
    with cast("IO[bytes]", gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")) as file:
        yield file


def first_lines(path: Path, size: int = CHUNK) -> list[str]:
    r"""First lines of a text in UTF-8, each with its end, as far as a number of bytes goes and the last one complete."""
    with unpacked(path) as file:
        start = file.read(size)
        complete = len(start) < size
    lines = list(io.StringIO(start.decode("utf-8-sig", errors="ignore"), newline=""))
    return lines if complete or len(lines) < 2 else lines[:-1]
