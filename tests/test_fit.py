"""Baselines made from training rows: bins, bounds, levels, size, and that a profile is what its hash says."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from driftline.detectors.baselines.categorical import MAX_LEVELS
from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.numeric import numeric_signal, short
from driftline.detectors.documents.baseline import Baseline, CategoricalSignal, NumericSignal
from driftline.detectors.documents.bloom_filter import FurtherLevels
from driftline.detectors.errors import OperatorError, UnknownFormat
from driftline.detectors.statistics.bounds import bounds_of
from driftline.detectors.statistics.distances import psi

finite = st.floats(-1e12, 1e12)
tables = hnp.arrays(np.float64, st.integers(1, 300), elements=finite | st.sampled_from([0.0, 1.0, math.nan, math.inf]))


def numeric(baseline: Baseline, name: str) -> NumericSignal:
    signal = baseline.signals[name]
    assert isinstance(signal, NumericSignal)
    return signal


def categorical(baseline: Baseline, name: str) -> CategoricalSignal:
    signal = baseline.signals[name]
    assert isinstance(signal, CategoricalSignal)
    return signal


@given(tables)
def test_every_row_is_counted_once_in_the_bin_that_holds_it(values: Any) -> None:
    signal = numeric_signal(values)
    ends = [-math.inf, *signal.edges, math.inf]
    recounted = [
        sum(start <= value < stop for value in values.tolist() if math.isfinite(value))
        for start, stop in pairwise(ends)
    ]
    assert signal.counts == recounted
    assert sum(signal.counts) + signal.missing + signal.nonfinite == values.size


@given(tables)
def test_edges_and_tails_ascend_and_bounds_hold_every_row(values: Any) -> None:
    signal = numeric_signal(values)
    assert signal.edges == sorted(set(signal.edges))
    assert signal.tails == sorted(signal.tails)
    inside = values[np.isfinite(values)]
    # Bounds are rounded to a 10 000th of the spread.
    slack = 1e-3 * (float(np.ptp(inside)) if inside.size else 0.0)
    assert all(signal.low - slack <= value <= signal.high + slack for value in inside.tolist())


def test_bins_hold_equal_shares() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 2.0, 10_000)
    signal = numeric_signal(values)
    assert len(signal.counts) == 20
    assert all(abs(count - 500) <= 10 for count in signal.counts)


def test_few_distinct_values_get_a_bin_each() -> None:
    signal = numeric_signal(np.repeat([3.0, 1.0, 2.0], [10, 30, 20]))
    assert (signal.edges, signal.counts) == ([2.0, 3.0], [30, 20, 10])


def test_a_constant_has_a_bin_of_its_own_between_the_tails() -> None:
    signal = numeric_signal(np.full(50, 7.0))
    assert signal.counts == [0, 50, 0]
    assert (signal.edges[0], signal.edges[1]) == (7.0, math.nextafter(7.0, math.inf))
    assert (signal.low, signal.high, signal.sd) == (7.0, 7.0, 0.0)
    read = Baseline.from_json(fit("m", "v", {"a": [7.0] * 50}).to_json())
    assert numeric(read, "a").edges == signal.edges


def test_many_ties_have_a_bin_of_their_own_and_the_other_rows_share_the_rest() -> None:
    values = np.concatenate([np.zeros(900), np.random.default_rng(2).exponential(size=100)])
    signal = numeric_signal(values)
    assert signal.counts[0] == 900
    assert len(signal.counts) == 20
    assert set(signal.counts[1:]) <= {5, 6}


atoms = st.sampled_from([0.0, 1 / 3, 7.0, 1e6, 1e9, -1e-9])
parts = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1, 1) | st.floats(1e6, 1e6 + 1))


@given(st.lists(atoms, max_size=200), parts)
def test_there_are_as_many_bins_as_values_up_to_ten_and_none_is_empty(heavy: list[float], spread: Any) -> None:
    values = np.concatenate([heavy, spread])
    signal = numeric_signal(values)
    distinct = np.unique(values).size
    assert len(signal.counts) >= min(distinct, 10)
    assert distinct == 1 or min(signal.counts) > 0


def test_a_column_that_is_mostly_zero_is_told_apart_where_it_is_not_whatever_its_largest_value() -> None:
    random = np.random.default_rng(1)
    values = np.where(random.random(10_000) < 0.8, 0.0, random.uniform(1, 40, 10_000))
    values[5] = 1e6
    signal = numeric_signal(values)
    assert signal.counts[0] == np.count_nonzero(values == 0)
    assert len(signal.counts) == 20
    window = np.bincount(np.searchsorted(signal.edges, random.uniform(20, 45, 500), side="right"), minlength=20)
    assert psi(np.array([signal.counts]), window[None], np.zeros((1, 20)))[0] > 1


def test_two_modes_far_apart_keep_their_bins_and_their_scale() -> None:
    random = np.random.default_rng(2)
    values = np.concatenate([random.random(500), 1e6 + random.random(500)])
    baseline = fit("m", "1", {"a": values.tolist(), "zeros": [0.0] * 900 + [float(each) for each in range(99)] + [1e6]})
    assert numeric(baseline, "a").counts == [50] * 20
    assert baseline.outliers is not None
    assert all(low < high for low, high in zip(baseline.outliers.low, baseline.outliers.high, strict=True))
    assert np.isfinite(baseline.outliers.tail).all()


@given(hnp.arrays(np.float64, st.integers(2, 50), elements=finite | st.floats(0, 1), unique=True))
def test_rounding_never_makes_one_of_two_values(values: Any) -> None:
    ascending = np.sort(values)
    rounded = [short(each, ascending) for each in ascending.tolist()]
    assert rounded == sorted(set(rounded))


def test_edges_are_short_to_write_and_finer_than_any_bin() -> None:
    values = np.sort(np.random.default_rng(3).normal(40.0, 12.0, 20_000))
    signal = numeric_signal(values)
    exact = values[(np.arange(1, 20) * values.size) // 20]
    assert np.abs(np.array(signal.edges) - exact).max() < 12.0 / 1000
    assert max(len(str(edge)) for edge in signal.edges) <= 8


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([0.0, 20.0, 40.0, 60.0, 80.0], (0.0, 120.0)),
        ([-80.0, -40.0, 0.0], (-120.0, 0.0)),
        ([-10.0, 0.0, 10.0], (-20.0, 20.0)),
        ([100.0, 5_000.0, 10_000.0], (0.0, 15_000.0)),
    ],
)
def test_bounds_are_twice_as_far_from_the_middle_and_keep_the_sign(
    values: list[float], bounds: tuple[float, float]
) -> None:
    found = bounds_of(np.array(values))
    assert (found.low, found.high) == bounds


def test_nothing_but_missing_is_a_profile_all_the_same() -> None:
    baseline = fit("m", "v", {"none": [None] * 5, "nan": [math.nan] * 5, "inf": [math.inf, None] * 2 + [1.0]})
    assert categorical(baseline, "none").missing == 5
    assert (numeric(baseline, "nan").missing, numeric(baseline, "nan").counts) == (5, [0])
    assert (numeric(baseline, "inf").missing, numeric(baseline, "inf").nonfinite) == (2, 2)
    assert Baseline.from_json(baseline.to_json()) == baseline


def test_a_column_of_mixed_types_is_categorical_and_spelled_as_json() -> None:
    signal = categorical(fit("m", "v", {"a": [1, 1.0, "1", 2.5, True, None]}), "a")
    assert dict(zip(signal.levels, signal.counts, strict=True)) == {"1": 3, "2.5": 1, "true": 1}
    assert signal.missing == 1
    assert not signal.closed


def test_numbers_of_numpy_are_numbers_and_booleans_are_levels() -> None:
    baseline = fit("m", "v", {"a": list(np.arange(4)), "b": [True, False, True, False]})
    assert numeric(baseline, "a").counts == [1, 1, 1, 1]
    assert categorical(baseline, "b").levels == ["false", "true"]


@given(st.lists(st.sampled_from([f"level{i}" for i in range(3 * MAX_LEVELS)]), min_size=1, max_size=600))
def test_every_level_is_kept_or_known_and_every_counted_row_has_its_cell(values: list[str]) -> None:
    signal = categorical(fit("m", "v", {"a": list(values)}), "a")
    counted = Counter(values)
    times = Counter(counted.values())
    assert signal.few == [times[each] for each in range(1, 9)]
    assert signal.closed == (len(counted) <= MAX_LEVELS and not times[1])
    assert signal.levels == sorted(signal.levels)
    if len(counted) <= MAX_LEVELS:
        assert dict(zip(signal.levels, signal.counts, strict=True)) == counted
        assert (signal.other, signal.further) == (0, "")
    else:
        assert len(signal.levels) <= MAX_LEVELS
        assert sum(signal.counts) + signal.other == len(values) - len(values) // 2
        further = FurtherLevels(signal.further)
        assert all(level in further for level in counted.keys() - set(signal.levels))


def test_probabilities_of_classes_count_as_the_most_probable_one() -> None:
    signal = categorical(
        fit("m", "v", {"prediction": [{"no": 0.2, "yes": 0.8}, {"no": 0.7, "yes": 0.3}]}), "prediction"
    )
    assert signal.levels == ["no", "yes"]


def test_200_features_fit_into_100_kb_and_hold_no_row() -> None:
    random = np.random.default_rng(4)
    columns: dict[str, list[Any]] = {
        f"feature_{i:03d}": random.lognormal(i % 7, 1.5, 2_000).tolist() for i in range(180)
    }
    columns |= {f"category_{i:02d}": random.choice([f"l{j}" for j in range(12)], 2_000).tolist() for i in range(20)}
    columns["prediction"] = random.random(2_000).tolist()
    document = fit("model", "v1", columns).to_json()
    assert len(document) < 100_000


def test_the_same_rows_give_the_same_bytes_and_other_rows_another_hash() -> None:
    def rows(seed: int) -> dict[str, list[Any]]:
        random = np.random.default_rng(seed)
        return {"b": random.normal(size=1_200).tolist(), "a": random.choice(["x", "y"], 1_200).tolist()}

    assert fit("m", "v", rows(5)).to_json() == fit("m", "v", rows(5)).to_json()
    assert fit("m", "v", rows(5)).hash != fit("m", "v", rows(6)).hash


def test_signals_keep_the_order_of_the_columns_through_json() -> None:
    """Features that a logger gives by position are named by it."""
    baseline = fit("m", "v", {"zeta": [1.0], "alpha": [2.0], "prediction": [3.0], "mid": ["x"]})
    assert list(Baseline.from_json(baseline.to_json()).signals) == ["zeta", "alpha", "prediction", "mid"]


def test_a_baseline_survives_json_whole() -> None:
    random = np.random.default_rng(7)
    baseline = fit(
        "m",
        "v",
        {
            "a": random.normal(size=1_000).tolist(),
            "b": [None, 1.5] * 500,
            "c": ["x", None] * 500,
            "prediction": random.random(1_000).tolist(),
        },
    )
    assert baseline.outliers is not None
    assert baseline.outliers.features == ["a"]  # b never varies
    assert Baseline.from_json(baseline.to_json()) == baseline


def test_the_moment_of_effect_is_no_part_of_the_hash() -> None:
    baseline = fit("m", "v", {"a": [1.0, 2.0]})
    later = msgspec.structs.replace(baseline, effective_from_ms=60_000)
    assert Baseline.from_json(later.to_json()).hash == baseline.hash


def tampered(change: dict[str, Any]) -> bytes:
    document = orjson.loads(fit("m", "v", {"a": [1.0, 2.0, 3.0]}).to_json())
    document["signals"]["a"] |= change
    return orjson.dumps(document)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"high": 99.0}, "hash is"),
        ({"counts": [1, 1]}, "2 counts for 3 bins"),
        ({"counts": [1, 3, -1]}, "negative"),
        ({"edges": [3.0, 2.0]}, "must ascend"),
        ({"tails": [1.0]}, "must be 10 ascending values"),
        ({"edges": "x"}, "Expected `array`"),
        ({"type": "image"}, "Invalid value 'image'"),
    ],
)
def test_a_tampered_baseline_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(OperatorError) as raised:
        Baseline.from_json(tampered(change))
    assert said in str(raised.value)


def test_another_format_is_unknown_and_no_document_is_told_as_such() -> None:
    document = orjson.loads(tampered({})) | {"format": "driftline.baseline/9"}
    with pytest.raises(UnknownFormat, match=r"driftline\.baseline/9"):
        Baseline.from_json(orjson.dumps(document))
    for raw in (b"", b"[]", b"\xff", b"{}"):
        with pytest.raises(OperatorError, match="driftline baseline build"):
            Baseline.from_json(raw)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "at least one column"),
        ({"a": []}, "at least one column and one row"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "the same number of rows"),
        ({"a": [1e200, 1.0]}, "column a: has values beyond 1e\\+150"),
    ],
)
def test_rows_that_make_no_profile_are_refused(columns: dict[str, list[float]], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        fit("m", "v", columns)
