"""What somebody who means no good could write to a topic, byte by byte."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBase, DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.record.util import encode_varint_py as encode_varint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    from driftline.streams.config.settings import Settings

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NOW_MS = 1_700_000_000_000
_PIECE = bytes(2**20)


def batch(values: Sequence[bytes], codec: str = "none", headers: Sequence[tuple[str, bytes]] = ()) -> bytes:
    """A sound record batch by aiokafka's own builder."""
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, -1, 2**31 - 1)
    for place, value in enumerate(values):
        assert builder.append(place, NOW_MS, None, value, list(headers)) is not None
    return bytes(builder.build())


def resealed(raw: bytes, attributes: int | None = None) -> bytes:
    """A batch whose bytes were changed, under a length and a checksum that are right again."""
    changed = bytearray(raw)
    changed[8:12] = (len(raw) - DefaultRecordBase.AFTER_LEN_OFFSET).to_bytes(4, "big")
    start = DefaultRecordBase.ATTRIBUTES_OFFSET
    if attributes is not None:
        changed[start : start + 2] = attributes.to_bytes(2, "big")
    checksum = calc_crc32c(bytes(changed[start:]))
    changed[DefaultRecordBase.CRC_OFFSET : start] = checksum.to_bytes(4, "big")
    return bytes(changed)


def bomb(codec: Literal["gzip", "zstd"], n_bytes: int) -> bytes:
    """A batch of one record whose value is so many zeros; it is never in memory unpacked."""
    body, record = bytearray(), bytearray()
    for number in (0, 0, 0, 1):  # attributes, time and offset deltas, the key's length
        encode_varint(number, body.append)
    body += b"k"  # a compacted topic takes nothing without one
    encode_varint(n_bytes, body.append)
    encode_varint(len(body) + n_bytes + 1, record.append)
    pieces = [bytes(record + body), *[_PIECE] * (n_bytes // len(_PIECE)), bytes(n_bytes % len(_PIECE)), b"\0"]
    header = batch([b""])[: DefaultRecordBase.HEADER_STRUCT.size]
    return resealed(header + _PACK[codec](pieces), CODECS[codec])


def _gzip(pieces: Sequence[bytes]) -> bytes:
    pack = zlib.compressobj(wbits=31)
    return b"".join([*map(pack.compress, pieces), pack.flush()])


def _zstd(pieces: Sequence[bytes]) -> bytes:
    pack = cramjam.zstd.Compressor()
    for piece in pieces:
        pack.compress(piece)
    return bytes(pack.finish())


_PACK = {"gzip": _gzip, "zstd": _zstd}


async def write(settings: Settings, topic: str, *raw_batches: bytes) -> None:
    """Write batches as they are to partition 0 of a topic, one after the other."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, max_request_size=2**24)
    await producer.start()
    try:
        for raw in raw_batches:
            prepared: Any = producer.create_batch()
            prepared.append(timestamp=NOW_MS, key=None, value=b"")  # an empty one would not be sent
            prepared.close()
            prepared._buffer = bytearray(raw)
            await (await producer.send_batch(prepared, topic, partition=0))
    finally:
        await producer.stop()
