"""Saved values of any length on a log whose records are bounded: a long one is cut into chunks.

Chunks are written first, under keys that nobody else writes, then a header in the value's own place that names them.
So a crash between any two writes leaves the value before, whole; so does a zombie that writes its own at the same time.
Chunks that no header names are removed behind the next save.
"""

import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

CHUNK_BYTES = 2**18
"""No saved value is longer, whatever a state holds: a quarter of what brokers take."""

_MAGIC = b"driftline chunks\0"
_SEPARATOR = b"|"


class _Header(msgspec.Struct, array_like=True, frozen=True):
    generation: bytes
    chunks: int
    checksum: int


@dataclass(slots=True)
class Chunks:
    """Which chunks lie in one partition's store, and which of them are in force.

    Parameters
    ----------
    known
        Keys of chunks by the key of their value.
    obsolete
        Keys of chunks that no value consists of any more.

    Examples
    --------
    A short value is stored as it is, and what was cut comes back whole.

    >>> values = [(b"short", b"1"), (b"long", bytes(CHUNK_BYTES + 1))]
    >>> stored = dict(Chunks().cut(values))
    >>> len(stored), max(map(len, stored.values())) <= CHUNK_BYTES
    (4, True)
    >>> Chunks.joined(stored)[1] == dict(values)
    True
    """

    known: dict[bytes, list[bytes]] = field(default_factory=dict)
    obsolete: list[bytes] = field(default_factory=list)

    @classmethod
    def joined(cls, stored: Mapping[bytes, bytes]) -> tuple["Chunks", dict[bytes, bytes]]:
        """Values from what is stored. One of which a chunk is missing or damaged comes back as its header: no state."""
        values = {key: raw for key, raw in stored.items() if not _is_chunk(key)}
        chunks = cls()
        for key, raw in values.items():
            if raw.startswith(_MAGIC) and (header := _header(raw)) is not None:
                chunks.known[key] = _keys(key, header)
                whole = b"".join(stored.get(each, b"") for each in chunks.known[key])
                values[key] = whole if zlib.crc32(whole) == header.checksum else raw
        in_force = {each for keys in chunks.known.values() for each in keys}
        chunks.obsolete = [key for key in stored if _is_chunk(key) and key not in in_force]
        return chunks, values

    def cut(self, values: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        """What to write for values, in this order; an empty value removes."""
        for key, value in values:
            before = self.known.pop(key, [])
            if len(value) > CHUNK_BYTES:
                yield from self._chunks(key, value)
            else:
                yield key, value
            self.obsolete += before
        obsolete, self.obsolete = self.obsolete, []
        yield from ((key, b"") for key in obsolete)

    def _chunks(self, key: bytes, value: bytes) -> Iterator[tuple[bytes, bytes]]:
        parts = range(0, len(value), CHUNK_BYTES)
        # By chance, not by number: a zombie that has counted as far must not write over our chunks.
        header = _Header(secrets.token_hex(8).encode(), len(parts), zlib.crc32(value))
        self.known[key] = _keys(key, header)
        for part, start in zip(self.known[key], parts, strict=True):
            yield part, value[start : start + CHUNK_BYTES]
        yield key, _MAGIC + msgspec.msgpack.encode(header)


def _header(raw: bytes) -> _Header | None:
    try:
        return msgspec.msgpack.decode(memoryview(raw)[len(_MAGIC) :], type=_Header)
    except msgspec.DecodeError:
        return None


def _keys(key: bytes, header: _Header) -> list[bytes]:
    return [_SEPARATOR.join([key, header.generation, str(place).encode()]) for place in range(header.chunks)]


def _is_chunk(key: bytes) -> bool:
    """Keys of values are empty or name a model and a version, with one separator between them."""
    return key.count(_SEPARATOR) > 1
