"""States as bytes and back: data in a checked envelope, never code.

A state is saved as several values, each under a key of its own: one cell per model version and, written last, the
partition's own. Every envelope carries the offset up to which it holds the log, so a worker that is killed between two
writes, or that lags behind as a zombie, leaves nothing worse than records to be skipped or read again.

Bytes that are foreign, truncated or flipped raise ``DamagedState``; ``restore`` then leaves that cell out and lets the
partition be read from its beginning, and the other cells skip what they hold already.
"""

import zlib
from functools import cache
from importlib.metadata import version
from typing import TypeVar

import msgspec

from driftline.detectors.errors import DamagedState, UnknownFormat

T = TypeVar("T")
FORMAT = 1
OWN = b""
"""Key of the partition's own cell, written last."""


class Envelope(msgspec.Struct, array_like=True, frozen=True):
    """What surrounds every saved value.

    Parameters
    ----------
    magic, format
        ``b"driftline"`` and the format's number.
    river
        Version of river, whose ADWIN state is part of the format.
    plan, baseline
        Hashes of what the state was made under; the baseline's is empty where several or none apply.
    next_offset
        First offset that is not in the state.
    payload, checksum
        The state and the CRC-32 of everything before it and itself.
    """

    magic: bytes
    format: int
    river: str
    plan: str
    baseline: str
    next_offset: int
    payload: bytes
    checksum: int


@cache
def river_version() -> str:
    """Version of the installed river."""
    return version("river")


def seal(payload: bytes, *, plan: str, baseline: str, next_offset: int) -> bytes:
    """Put a payload into its envelope."""
    blank = Envelope(b"driftline", FORMAT, river_version(), plan, baseline, next_offset, payload, 0)
    return msgspec.msgpack.encode(msgspec.structs.replace(blank, checksum=_checksum(blank)))


def unseal(raw: bytes) -> Envelope:
    """Take an envelope apart.

    Raises
    ------
    DamagedState
        For bytes that are not one, or whose checksum is wrong.
    UnknownFormat
        For a sound envelope of a newer format or another river.
    """
    try:
        envelope = msgspec.msgpack.decode(raw, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedState(f"snapshot of {len(raw)} bytes: {error}") from error
    if envelope.magic != b"driftline" or envelope.checksum != _checksum(envelope):
        raise DamagedState(f"snapshot of {len(raw)} bytes: wrong checksum")
    if envelope.format != FORMAT:
        raise UnknownFormat(f"snapshot format {envelope.format} is not {FORMAT}: use that driftline or a new --app-id")
    if envelope.river.split(".")[:2] != river_version().split(".")[:2]:
        raise UnknownFormat(
            f"snapshot made with river {envelope.river}, this is {river_version()}: install that one or use a new --app-id"
        )
    return envelope


def _checksum(envelope: Envelope) -> int:
    blank = msgspec.structs.replace(envelope, checksum=0)
    return zlib.crc32(msgspec.msgpack.encode(blank))


def cell_key(model: str, model_version: str) -> bytes:
    """Key of a model version's cell within its partition."""
    return f"{model}|{model_version}".encode()


def decode(payload: bytes, kind: type[T]) -> T:
    """Read a payload.

    Raises
    ------
    DamagedState
        For bytes that don't fit; the checksum lets only a defect of ours come so far.
    """
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedState(f"snapshot payload: {error}") from error
