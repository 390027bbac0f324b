"""Formats that driftline does not read but knows by sight, so that a dead letter can name them."""

import re
from collections.abc import Mapping

import msgspec

from driftline.detectors.errors import RecordError

MANUAL = "docs/wire-formats.md"

_BEGINNINGS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(beginning, re.DOTALL), name)
    for beginning, name in (
        (rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[\[{\"]\0|\0[\[{\"]\0|\0\0\0[\[{\"]", "UTF-16 or UTF-32 text"),
        (rb"\0.{4}.", "a frame of a schema registry (a zero byte and a schema id of four bytes)"),
        (rb"\x03[\x00\x05].{16}.", "a frame of the Glue schema registry"),
        (rb"\xc3\x01.{8}", "an Avro single object"),
        (rb"Obj\x01", "an Avro container file"),
        (rb"PAR1", "a Parquet file"),
        (rb"ARROW1|\xff\xff\xff\xff.\0\0\0", "Arrow data"),
        (rb"\x1f\x8b", "gzip"),
        (rb"\x28\xb5\x2f\xfd", "zstd"),
        (rb"\x04\x22\x4d\x18", "lz4"),
        (rb"\xff\x06\0\0sNaPpY", "snappy"),
        (rb"BZh[1-9]", "bzip2"),
        (rb"\xfd7zXZ\0", "xz"),
        (rb"PK\x03\x04", "a ZIP file"),
        (rb"\x80[\x02-\x05].*\.\Z", "a pickle"),
        (rb"\s*<[?!\w]", "XML"),
    )
)
_COMPRESSED = {"gzip", "zstd", "lz4", "snappy", "bzip2", "xz"}

_ENVELOPES: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(keys.split()), name)
    for keys, name in (
        ("before after", "an envelope of Debezium (unwrap it with ExtractNewRecordState)"),
        ("schema payload", "an envelope of Kafka Connect's JSON converter (set schemas.enable=false)"),
        ("payload", "an envelope with the record in `payload`"),
        ("specversion type source", "a CloudEvent in structured mode (write its `data` alone)"),
        ("captureData", "SageMaker data capture"),
        ("instances", "a request of KServe V1 or TensorFlow Serving"),
        ("predictions", "a response of KServe V1 or TensorFlow Serving"),
        ("inputs", "a request of KServe V2 (Open Inference Protocol)"),
        ("outputs", "a response of KServe V2 (Open Inference Protocol)"),
        ("dataframe_split", "a request of MLflow"),
        ("dataframe_records", "a request of MLflow"),
    )
)


def refuse_foreign_bytes(value: bytes) -> None:
    """Refuse bytes of a known format that is no JSON in UTF-8.

    Raises
    ------
    RecordError
        With the format's name.
    """
    for beginning, name in _BEGINNINGS:
        if beginning.match(value):
            what = f"{name}-compressed bytes (compress batches by the producer's compression.type)"
            raise _unsupported(what if name in _COMPRESSED else name)
    if value[:1] and (value[0] & 0xF0 == 0x80 or value[0] in (0xDE, 0xDF)) and _is_message_pack(value):
        raise _unsupported("MessagePack")


def refuse_envelope(document: Mapping[str, object]) -> None:
    """Refuse a JSON object that lacks a prediction's fields and has those of a known envelope.

    Raises
    ------
    RecordError
        With the envelope's name.
    """
    inside = document.get("payload")
    for keys, name in _ENVELOPES:
        if keys <= document.keys() or (isinstance(inside, Mapping) and keys <= inside.keys()):
            raise _unsupported(name)


def _unsupported(name: str) -> RecordError:
    return RecordError("unsupported_format", f"this is {name}", wanted=f"one JSON document ({MANUAL}), not {name}")


def _is_message_pack(value: bytes) -> bool:
    try:
        return isinstance(msgspec.msgpack.decode(value), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return False
