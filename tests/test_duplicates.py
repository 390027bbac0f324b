"""Records that repeat one another: sampled alike however the log is cut, and allowed for in every test."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.duplicates import NO_ID, NO_KEY, SAMPLE, Duplicates, id_hashes, record_keys, thinned
from driftline.detectors.errors import DamagedState
from driftline.detectors.plan import Plan
from driftline.streams.formats import wire
from tests.logs import START_MS, by_the_minute, plain, prediction, sample, watching
from tests.scorecard import interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.predictions import Prediction
    from driftline.detectors.verdicts.decide import Verdict

logs = st.lists(st.integers(-1, 400), max_size=600)


def sampled(ids: Sequence[int], cuts: Sequence[int] = ()) -> Duplicates:
    """Of records that are as different as their ids; -1 for none."""
    found = Duplicates()
    for part in np.split(np.array(ids, np.int64), sorted(cuts)):
        found.add(np.where(part < 0, NO_KEY, (part * 7919 % 1009 << 32 | part).astype(np.uint64)))
    return found


@given(ids=logs, cuts=st.lists(st.integers(0, 600), max_size=5))
def test_the_sample_holds_the_smallest_hashes_counted_whole_however_the_log_is_cut(
    ids: list[int], cuts: list[int]
) -> None:
    found = sampled(ids, cuts)
    times = Counter((each * 7919 % 1009) << 32 | each for each in ids if each >= 0)
    loaded = Duplicates.load(found.dump())
    assert dict(zip(loaded.keys.tolist(), loaded.times.tolist(), strict=True)) == dict(sorted(times.items())[:SAMPLE])
    assert loaded.n == sum(times.values())
    assert loaded.dump() == found.dump() == sampled(ids).dump()


@given(ids=logs, parts=st.integers(1, 5))
def test_partitions_add_up_to_the_sample_of_all(ids: list[int], parts: int) -> None:
    own = [sampled(ids[place::parts]) for place in range(parts)]
    assert len({Duplicates.merged(each).dump() for each in (own, own[::-1], [sampled(ids)])}) == 1


@given(st.binary(max_size=60))
def test_other_bytes_are_damaged_or_a_sample(raw: bytes) -> None:
    try:
        loaded = Duplicates.load(raw)
    except DamagedState:
        return
    assert loaded.keys.size == loaded.times.size
    assert loaded.dump()[: 10 + 8 * loaded.keys.size] == (raw[: 10 + 8 * loaded.keys.size] if loaded.n else b"")


def test_hashes_are_of_the_ids_text_and_there_is_none_without_an_id() -> None:
    rows = [msgspec.structs.replace(prediction({}), id=each) for each in ("12", 12, None)]
    first, second, third = id_hashes(rows).tolist()
    assert first == second != third == NO_ID
    assert id_hashes(rows[:1]).tolist() == [first]
    assert id_hashes(rows[2:]).tolist() == [NO_ID]


def test_records_have_one_key_if_they_have_one_id_and_say_the_same() -> None:
    hashes = np.array([5, 5, 5, 5, NO_ID, 6])
    numeric = np.array([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]])
    cells = np.array([[7, 7, 7, 8, 7, 7]])
    keys = record_keys(hashes, numeric, cells).tolist()
    assert [key >> 32 for key in keys] == [5, 5, 5, 5, 2**32 - 1, 6]
    assert keys[4] == NO_KEY
    assert keys[0] == keys[1]
    assert len(set(keys)) == 5
    assert record_keys(hashes[1:3], numeric[:, 1:3], cells[:, 1:3]).tolist() == keys[1:3]


@given(st.lists(st.lists(st.sampled_from((0.0, 1.0, 2.0)), min_size=8, max_size=8), min_size=2, max_size=40))
def test_records_that_differ_in_small_numbers_have_different_keys(rows: list[list[float]]) -> None:
    """A hash that loses the last bits, or adds up columns, takes such rows for one another."""
    keys = record_keys(np.zeros(len(rows), np.int64), np.array(rows).T.copy(), np.empty((0, len(rows)), np.int64))
    assert len(set(keys.tolist())) == len(set(map(tuple, rows)))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(1, 4))
def test_counts_of_rows_that_all_came_several_times_are_as_if_each_had_come_once(counts: list[int], times: int) -> None:
    each = np.array([counts])
    assert thinned(each * times, np.array([float(times)])).tolist() == each.tolist()


def verdict_on(rows: Sequence[Prediction]) -> Verdict:
    return by_the_minute(watching(Plan(), plain()), rows).final["m", "1", START_MS]


def identified(rows: Sequence[Prediction], **changes: Any) -> list[Prediction]:
    return [msgspec.structs.replace(row, id=f"q-{place}", **changes) for place, row in enumerate(rows)]


def test_where_no_record_repeats_another_nothing_is_changed_to_the_last_byte() -> None:
    rows = sample(400, 3, shift=0.1)
    users = [msgspec.structs.replace(row, id=f"user {place % 7}") for place, row in enumerate(rows)]
    assert wire.document(verdict_on(identified(rows))) == wire.document(verdict_on(rows))
    assert wire.document(verdict_on(users)) == wire.document(verdict_on(rows))


@pytest.mark.parametrize("times", [2, 3])
def test_records_that_all_came_several_times_are_tested_as_if_each_had_come_once(times: int) -> None:
    rows = identified(sample(400, 3, shift=0.3))
    once, repeated = verdict_on(rows), verdict_on([row for row in rows for _ in range(times)])
    assert (repeated.n, repeated.design_effect) == (400 * times, float(times))
    assert repeated.repeated == pytest.approx(1 - 1 / times, abs=1e-6)
    for name, signal in once.signals.items():
        assert repeated.signals[name].counts == [times * each for each in signal.counts]
        assert repeated.signals[name].p_value == signal.p_value


def test_p_values_keep_their_size_where_records_are_repeated_and_lose_it_without_ids() -> None:
    sizes = {}
    for kind in ("twice", "some twice", "without ids"):
        p_values = []
        for seed in range(30):
            random = np.random.default_rng(seed)
            rows = identified(sample(300, seed + 1000))
            again = random.random(300) < (0.1 if kind == "some twice" else 1.0)
            rows = [row for row, twice in zip(rows, again, strict=True) for _ in range(1 + twice)]
            if kind == "without ids":
                rows = [msgspec.structs.replace(row, id=None) for row in rows]
            p_values += [signal.p_value or 0.0 for signal in verdict_on(rows).signals.values()]
        sizes[kind] = interval(sum(p <= 0.05 for p in p_values), len(p_values))
    assert sizes["twice"][0] <= 0.05 <= sizes["twice"][1] + 0.02
    assert sizes["some twice"][0] <= 0.055
    assert sizes["without ids"][0] > 0.065
