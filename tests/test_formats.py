"""Other formats are named, so that whoever reads a dead letter knows what to do; and nothing of ours is taken for one."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING, Any

import cramjam
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.formats.foreign import MANUAL
from driftline.streams.formats.tolerant import refusal

if TYPE_CHECKING:
    from driftline.detectors.errors import RecordError

GOOD = {"model": "m", "version": "1", "features": {"x": 1.5}, "prediction": 0.5}
TEXT = orjson.dumps(GOOD)

BYTES: dict[str, list[bytes]] = {
    "schema registry": [b"\0\0\0\0\x07" + TEXT, b"\0\0\x01\x86\xa0\x02\x06abc"],
    "Glue": [b"\x03\0" + bytes(range(16)) + TEXT],
    "UTF-16": [TEXT.decode().encode(each) for each in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")],
    "gzip": [gzip.compress(TEXT, mtime=0)],
    "zstd": [bytes(cramjam.zstd.compress(TEXT))],
    "lz4": [bytes(cramjam.lz4.compress(TEXT))],
    "snappy": [bytes(cramjam.snappy.compress(TEXT))],
    "bzip2": [bz2.compress(TEXT)],
    "xz": [lzma.compress(TEXT)],
    "Avro container": [b"Obj\x01\x04\x14avro.codec"],
    "Avro single": [b"\xc3\x01" + bytes(range(8)) + b"\x02\x06abc"],
    "Parquet": [b"PAR1\x15\x04"],
    "MessagePack": [msgspec.msgpack.encode(GOOD), msgspec.msgpack.encode({str(n): n for n in range(100)})],
    "XML": [b'<?xml version="1.0"?><a/>', b"  <prediction/>"],
}

ENVELOPES: dict[str, list[dict[str, Any]]] = {
    "Debezium": [
        {"before": None, "after": GOOD, "op": "c"},
        {"payload": {"before": None, "after": GOOD}},
        {"schema": {}, "payload": {"before": None, "after": GOOD, "source": {}}},
    ],
    "Kafka Connect": [{"schema": {"type": "struct"}, "payload": GOOD}],
    "CloudEvent": [{"specversion": "1.0", "type": "t", "source": "s", "id": "1", "data": GOOD}],
    "KServe V1": [{"instances": [[1.5]]}, {"predictions": [0.5]}],
    "KServe V2": [{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.5]}]}, {"outputs": []}],
    "SageMaker": [{"captureData": {"endpointInput": {}}, "eventMetadata": {}}],
    "MLflow": [{"dataframe_split": {}}, {"dataframe_records": []}],
}


def refused(value: bytes) -> RecordError:
    error = refusal(value, 2**20)
    assert error is not None
    return error


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BYTES.items() for value in values])
def test_bytes_of_another_format_are_named(name: str, value: bytes) -> None:
    error = refused(value)
    assert error.reason == "unsupported_format"
    assert name in error.wanted
    assert MANUAL in error.wanted


@pytest.mark.parametrize(("name", "document"), [(name, each) for name, made in ENVELOPES.items() for each in made])
def test_a_known_envelope_is_named(name: str, document: dict[str, Any]) -> None:
    error = refused(orjson.dumps(document))
    assert error.reason == "unsupported_format"
    assert name in error.wanted


@pytest.mark.parametrize("name", ["before", "instances", "inputs", "payload", "captureData"])
def test_a_prediction_may_have_fields_of_these_names(name: str) -> None:
    assert refusal(orjson.dumps({**GOOD, name: {}}), 2**20) is None
    assert refusal(orjson.dumps({**GOOD, name: {}, "weight": "odd"}), 2**20) is None


def test_a_pickle_is_named_and_never_read() -> None:
    assert "a pickle" in refused(b"\x80\x04K\x01.").wanted


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_for_one_reason_of_the_closed_set(value: bytes) -> None:
    assert refused(value).reason in (
        "unsupported_format",
        "invalid_json",
        "invalid_utf8",
        "missing_field",
        "invalid_field",
    )


@pytest.mark.parametrize("value", [b"{", b"", b"no", b'{"model": "m"}', b"\xff", b"[1]", b"\0", b"\x80\x02"])
def test_what_is_merely_broken_is_not_given_the_name_of_a_format(value: bytes) -> None:
    assert refused(value).reason != "unsupported_format"
