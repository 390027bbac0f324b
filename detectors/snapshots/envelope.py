"""States as bytes and back: data in a checked envelope, never code.

A state is saved as several values, each under a key of its own: one cell per model version that changed and, written
last, the partition's own. Every envelope carries the offset up to which its value holds the log. So a worker that is
killed between two writes leaves cells that are ahead of the partition's own: they skip what they hold. A zombie, paused
for so long that its partitions went to another worker, may overwrite a cell with an older one: the partition's own cell
lists how far each cell had come, so that is noticed, and reading starts where the oldest such cell ends.

Bytes that are foreign, truncated or flipped raise ``DamagedState``; ``load`` then leaves that cell out and lets the
partition be read from its beginning, and the other cells skip what they hold already.
"""

import struct
import zlib
from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import version
from typing import TypeVar

import msgspec

from driftline.detectors.errors import START_OVER, DamagedState, UnknownFormat

T = TypeVar("T")
MAGIC, FORMAT = b"driftline", 3
"""Only this format is read. Formats 1 and 2 counted other cells, by baselines of another format."""
OWN = b""
"""Key of the partition's own cell, written last."""

_FRAME = struct.Struct(">9sHI")
"""Magic, format, and the CRC-32 of format and body. It is the same for every format, so that a newer one is told."""


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What surrounds every saved value; the body behind the frame.

    Parameters
    ----------
    river
        Version of river, whose ADWIN state is part of the format.
    plan, baseline
        Hashes of what the state was made under; the baseline's is empty where several or none apply.
    next_offset
        First offset that is not in the state.
    context
        How far the whole partition had come there, so that it can go on from this cell.
    payload
        The state.
    """

    river: str
    plan: str
    baseline: str
    next_offset: int
    context: bytes
    payload: bytes


@cache
def river_version() -> str:
    """Version of the installed river, without the part that leaves its state's layout alone."""
    return ".".join(version("river").split(".")[:2])


def seal(content: msgspec.Struct, context: msgspec.Struct, *, plan: str, baseline: str, next_offset: int) -> bytes:
    """Put a state into its envelope."""
    inner = msgspec.msgpack.encode(context), msgspec.msgpack.encode(content)
    body = msgspec.msgpack.encode(Envelope(river_version(), plan, baseline, next_offset, *inner))
    return _FRAME.pack(MAGIC, FORMAT, zlib.crc32(body, FORMAT)) + body


def unseal(raw: bytes) -> Envelope:
    """Take an envelope apart.

    Raises
    ------
    DamagedState
        For bytes that are not one, or whose checksum is wrong.
    UnknownFormat
        For a sound envelope of another format or another river.
    """
    magic, form, checksum = _FRAME.unpack_from(raw) if len(raw) >= _FRAME.size else (b"", 0, 0)
    body = memoryview(raw)[_FRAME.size :]
    if magic != MAGIC or checksum != zlib.crc32(body, form):
        raise DamagedState(f"snapshot of {len(raw)} bytes: wrong checksum")
    if form != FORMAT:
        raise UnknownFormat(
            f"snapshot format {form}, this driftline reads format {FORMAT}: use the driftline that wrote it, or {START_OVER}"
        )
    envelope = decode(body, Envelope)
    if envelope.river != river_version():
        raise UnknownFormat(
            f"snapshot made with river {envelope.river}, this is {river_version()}: install that one, or {START_OVER}"
        )
    return envelope


def cell_key(model: str, model_version: str) -> bytes:
    """Key of a model version's cell within its partition."""
    return f"{model}|{model_version}".encode()


def decode(payload: bytes | memoryview, kind: type[T]) -> T:
    """Read what the checksum has vouched for.

    Raises
    ------
    DamagedState
        For bytes that don't fit; only a defect of ours comes so far.
    """
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedState(f"snapshot: {error}") from error


def check_home(content: tuple[int, str, str], partition: int, key: bytes) -> None:
    """Refuse a cell of (partition, model, version) that lies where another belongs.

    Raises
    ------
    DamagedState
        Naming both places.
    """
    if content[0] != partition or cell_key(*content[1:]) != key:
        raise DamagedState(f"cell of {content} under partition {partition}, key {key!r}")


def missing(listed: Mapping[bytes, int], saved: Collection[bytes]) -> dict[bytes, DamagedState]:
    """Cells that the partition's own cell lists and nobody has any more."""
    return {key: DamagedState(f"the cell of {key!r} is gone") for key in sorted(listed) if key not in saved}
