"""Saved values of any length: what is stored is bounded, and a crash at any write leaves the value before, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.streams.engine import chunks
from driftline.streams.engine.chunks import CHUNK_BYTES, Chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = 8
KEYS = [b"", b"m|1", b"a#b|1"]
SAVES = st.lists(
    st.dictionaries(st.sampled_from(KEYS), st.binary(max_size=5 * SMALL), min_size=1), min_size=1, max_size=5
)


def write(stored: dict[bytes, bytes], key: bytes, value: bytes) -> None:
    stored[key] = value
    if not value:
        del stored[key]


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunks, "CHUNK_BYTES", SMALL)
        yield


@given(SAVES, st.data())
def test_every_stored_value_is_bounded_and_a_crash_at_any_write_leaves_each_value_whole(
    saves: list[dict[bytes, bytes]], data: st.DataObject
) -> None:
    stored: dict[bytes, bytes] = {}
    held, values = Chunks.joined(stored)
    assert values == {}
    for save in saves:
        before, writes = dict(values), list(held.cut(save.items()))
        kept = data.draw(st.integers(0, len(writes)))
        for key, value in writes[:kept]:
            write(stored, key, value)
            assert len(value) <= SMALL or value.startswith(chunks._MAGIC)
        if kept < len(writes):
            held, values = Chunks.joined(stored)
            assert all(values.get(key, b"") in (before.get(key, b""), save.get(key)) for key in KEYS)
        else:
            values = {key: value for key, value in (before | save).items() if value}
        assert Chunks.joined(stored)[1] == values


@given(SAVES, st.integers(0, 30))
def test_nothing_is_left_behind_once_a_whole_save_came_after_a_crash(
    saves: list[dict[bytes, bytes]], kept: int
) -> None:
    stored: dict[bytes, bytes] = {}
    for save in saves:
        for key, value in list(Chunks.joined(stored)[0].cut(save.items()))[:kept]:
            write(stored, key, value)
    for key, value in Chunks.joined(stored)[0].cut([(key, b"x") for key in KEYS]):
        write(stored, key, value)
    assert stored == dict.fromkeys(KEYS, b"x")


@given(st.binary(min_size=SMALL + 1, max_size=5 * SMALL), st.binary(min_size=SMALL + 1, max_size=5 * SMALL), st.data())
def test_a_zombie_that_writes_between_our_writes_leaves_one_of_the_two_values_whole(
    ours: bytes, theirs: bytes, data: st.DataObject
) -> None:
    stored = dict(Chunks().cut([(b"m|1", b"what both of them loaded")]))
    queues = [list(Chunks.joined(stored)[0].cut([(b"m|1", value)])) for value in (ours, theirs)]
    while any(queues):
        write(stored, *data.draw(st.sampled_from([queue for queue in queues if queue])).pop(0))
        assert Chunks.joined(stored)[1][b"m|1"] in (b"what both of them loaded", ours, theirs)


def test_a_value_of_which_a_chunk_is_gone_or_damaged_is_no_value() -> None:
    stored = dict(Chunks().cut([(b"m|1", bytes(20))]))
    part = next(key for key in stored if key != b"m|1")
    for damaged in ({key: raw for key, raw in stored.items() if key != part}, stored | {part: b"12345678"}):
        held, values = Chunks.joined(damaged)
        assert values == {b"m|1": stored[b"m|1"]}  # the header, which is no state: its checksum will say so
        written = dict(held.cut([(b"m|1", b"")]))
        assert damaged.keys() <= written.keys()
        assert set(written.values()) == {b""}


def test_a_header_that_can_t_be_read_is_given_back_as_it_is() -> None:
    for raw in (chunks._MAGIC, chunks._MAGIC + b"\xc1"):
        assert Chunks.joined({b"m|1": raw})[1] == {b"m|1": raw}


def test_the_bound_is_far_below_what_kafka_takes() -> None:
    assert CHUNK_BYTES <= 2**20 // 4
