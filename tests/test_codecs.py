from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import codec
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.kafka.codecs import DECODERS, BatchTooLarge, limited
from tests.hostile import batch, bomb

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 100_000
NAMES = ("gzip", "snappy", "lz4", "zstd")
CODEC = pytest.mark.parametrize("name", NAMES)


def encode(name: str, payload: bytes) -> bytes:
    packed: bytes = getattr(codec, f"{name}_encode")(payload)
    return packed


def decode(name: str, packed: bytes, limit: int = LIMIT) -> bytes:
    return DECODERS[f"{name}_decode"](packed, limit=limit)


@given(st.sampled_from(NAMES), st.binary(max_size=300), st.integers(0, 300))
def test_what_was_packed_is_unpacked(name: str, piece: bytes, times: int) -> None:
    payload = piece * times
    assert decode(name, encode(name, payload), limit=300 * 300) == payload


def test_snappy_in_one_piece_is_unpacked() -> None:
    assert decode("snappy", codec.snappy_encode(b"abc" * 99, xerial_compatible=False)) == b"abc" * 99


@CODEC
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(name: str) -> None:
    assert len(decode(name, encode(name, bytes(LIMIT)))) == LIMIT
    with pytest.raises(BatchTooLarge, match="more than 100000 bytes"):
        decode(name, encode(name, bytes(LIMIT + 1)))


@CODEC
@pytest.mark.parametrize("spoil", [lambda raw: raw[: len(raw) // 2], lambda raw: b"\xff" * len(raw)])
def test_what_can_not_be_unpacked_is_not_called_too_large(name: str, spoil: Callable[[bytes], bytes]) -> None:
    packed = encode(name, bytes(range(256)) * 99)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - every library has its own
        decode(name, spoil(packed))
    assert not isinstance(raised.value, BatchTooLarge)


def test_memory_stays_at_the_limit_though_the_batch_is_a_bomb() -> None:
    def peak_bytes(read: Callable[[], Any]) -> int:
        tracemalloc.start()
        try:
            read()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    raw, unlimited = bomb("gzip", 50_000_000), codec.gzip_decode

    def refused() -> None:
        with limited(LIMIT), pytest.raises(BatchTooLarge):
            iter(DefaultRecordBatch(raw))

    assert peak_bytes(refused) < 10 * LIMIT
    assert peak_bytes(lambda: unlimited(raw[61:])) > 50_000_000  # the control


@CODEC
def test_aiokafka_reads_within_the_limit_as_before_and_after_it_without_one(name: str) -> None:
    values = [b"%d" % n * 1000 for n in range(50)]
    raw = batch(values, name)

    def read() -> list[bytes | None]:
        return [record.value for record in DefaultRecordBatch(raw)]

    with limited(2**20):
        assert read() == values
    with limited(1000), pytest.raises(BatchTooLarge):
        read()
    assert read() == values
