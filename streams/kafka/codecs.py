"""Decompression that stops at a limit: a few kilobytes on a topic can stand for hundreds of megabytes.

aiokafka unpacks a record batch whole, whatever comes out. Its readers, the compiled ones too, look their decoders up in
their modules, so others can stand in their place for as long as a worker runs.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any

import cramjam

Into = Callable[[bytes, bytearray], int]
"""Unpacks into a buffer and returns how much of it was filled."""

GZIP = 16 + zlib.MAX_WBITS
USUAL_RATIO = 16
"""Room for a first attempt, times the packed size: JSON packs to a tenth."""
NO_ROOM = "failed to write whole buffer"
XERIAL = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
"""Header of snappy in blocks, as Java's producer writes it; before each block stands its length."""


class BatchTooLarge(Exception):  # noqa: N818 - named for what was met
    """A record batch would unpack to more than the limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"it would unpack to more than {limit} bytes (worker.max_batch_bytes)")


def gunzip(payload: Any, limit: int) -> bytes:
    """Unpack gzip, of one or several members.

    Raises
    ------
    BatchTooLarge
        Before more than ``limit + 1`` bytes are unpacked.
    zlib.error, EOFError
        For what is not gzip, or ends too early.

    Examples
    --------
    >>> import gzip
    >>> gunzip(gzip.compress(b"ab") + gzip.compress(b"c"), limit=3)
    b'abc'
    >>> gunzip(gzip.compress(bytes(10**6)), limit=1000)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ...
    driftline.streams.kafka.codecs.BatchTooLarge: it would unpack to more than 1000 bytes (worker.max_batch_bytes)
    """
    unpacked, rest = b"", bytes(payload)
    while rest:
        member = zlib.decompressobj(GZIP)
        piece = member.decompress(rest, limit - len(unpacked) + 1)
        unpacked = unpacked + piece if unpacked else piece
        if len(unpacked) > limit:
            raise BatchTooLarge(limit)
        if not member.eof:
            raise EOFError("gzip ends too early")
        rest = member.unused_data.lstrip(b"\0")
    return unpacked


def unsnap(payload: Any, limit: int) -> bytes:
    """Unpack snappy, in one piece or in Java's blocks; every piece says beforehand how long it will be.

    Raises
    ------
    BatchTooLarge
        Before anything too long is unpacked.
    """
    packed = bytes(payload)
    if not packed.startswith(XERIAL):
        return _unsnap_piece(packed, limit, limit)
    pieces, place, left = [], len(XERIAL), limit
    while place < len(packed):
        (length,) = struct.unpack_from("!i", packed, place)
        if length < 0:
            raise ValueError("a snappy block of negative length")
        place += 4
        pieces.append(_unsnap_piece(packed[place : place + length], left, limit))
        left -= len(pieces[-1])
        place += length
    return b"".join(pieces)


def _unsnap_piece(packed: bytes, left: int, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > left:
        raise BatchTooLarge(limit)
    return bytes(cramjam.snappy.decompress_raw(packed))


def unpack(payload: Any, limit: int, into: Into) -> bytes:
    """Unpack what does not say beforehand how long it will be, into buffers of growing size.

    Raises
    ------
    BatchTooLarge
        When ``limit`` bytes are full and there is more.
    """
    packed = bytes(payload)
    room = min(limit, max(4096, USUAL_RATIO * len(packed)))
    while True:
        buffer = bytearray(room)
        try:
            filled = into(packed, buffer)
        except (cramjam.DecompressionError, OSError) as error:
            if NO_ROOM not in str(error):
                raise
            if room == limit:
                raise BatchTooLarge(limit) from error
            room = min(limit, 4 * room)
        else:
            return bytes(memoryview(buffer)[:filled])


@contextmanager
def limited(limit: int) -> Iterator[None]:
    """Let aiokafka, in all of this process, unpack no record batch to more than so many bytes."""
    with ExitStack() as stack:
        for module in map(import_module, READERS):
            for name, decode in DECODERS.items():
                if hasattr(module, name):  # the formats before Kafka 0.11 know no zstd
                    stack.callback(setattr, module, name, getattr(module, name))
                    setattr(module, name, partial(decode, limit=limit))
        yield


READERS = (
    "aiokafka.record.default_records",
    "aiokafka.record.legacy_records",
    "aiokafka.record._crecords.default_records",
    "aiokafka.record._crecords.legacy_records",
)

DECODERS: MappingProxyType[str, Callable[..., bytes]] = MappingProxyType(
    {
        "gzip_decode": gunzip,
        "snappy_decode": unsnap,
        "lz4_decode": partial(unpack, into=cramjam.lz4.decompress_into),
        "zstd_decode": partial(unpack, into=cramjam.zstd.decompress_into),
    }
)
