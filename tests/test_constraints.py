"""Single values are told within a budget, and as soon as they can't be chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.constraints import occurrences_needed
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import MINUTE_MS, START_MS, Profile, batch_of, prediction, watching


def baseline_of(rows: int, missing: int = 0) -> Any:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=rows).tolist()
    colours = rng.choice(["red", "green"], rows).tolist()
    x[:missing] = [None] * missing
    return fit("m", "1", {"x": x, "colour": colours, "prediction": rng.random(rows).tolist()})


def events_of(baseline: Any, xs: list[Any], sizes: list[int], plan: Plan | None = None) -> list[tuple[int, str]]:
    """Offset and constraint of each single-record alert, of records a millisecond apart in batches of these sizes."""
    watch, found, start = (
        watching(plan or plan_from({"events_per_window": 1000}), baseline),
        Profile(PartitionState(0, 1)),
        0,
    )
    for size in [*sizes, len(xs)]:
        rows = [prediction({"x": x, "colour": "red"}, 0.5) for x in xs[start : start + size]]
        found.step(batch_of(rows, [START_MS + start + place for place in range(len(rows))], start), watch)
        start += len(rows)
    return [(event.origin.offset, event.detector) for event in found.events if event.origin]


@pytest.mark.parametrize("rows", [200, 1_000, 10_000])
def test_one_null_proves_nothing_and_the_kth_is_told(rows: int) -> None:
    """The k-th in a row, by the chance of k of m + k rows to be the last k, shared by the three signals."""
    chance, k = 1.0, 0
    while chance > 1e-6 / 3:
        k += 1
        chance = (k / (rows + k)) ** k
    told = events_of(baseline_of(rows), [None] * (k + 2), [])
    assert told == [(k - 1, "null"), (k, "null"), (k + 1, "null")]
    assert k > 1


def test_a_fifth_of_nulls_is_told_within_a_dozen_of_them() -> None:
    xs = [None if place % 5 == 0 else 0.0 for place in range(300)]
    offset, _ = events_of(baseline_of(10_000), xs, [])[0]
    assert offset <= 5 * 4


def test_a_column_with_few_nulls_in_the_baseline_is_left_to_the_windows() -> None:
    assert events_of(baseline_of(10_000, missing=3), [None] * 50, []) == []


@given(sizes=st.lists(st.integers(1, 40), max_size=6), seed=st.integers(0, 50))
def test_what_is_told_does_not_depend_on_the_cut(sizes: list[int], seed: int) -> None:
    draws = np.random.default_rng(seed).random(200)
    xs = [None if draw < 0.1 else 50.0 if draw < 0.15 else 5.0 if draw < 0.2 else 0.0 for draw in draws.tolist()]
    assert events_of(CUT, xs, sizes) == events_of(CUT, xs, [])


CUT = baseline_of(1_000)


def test_counts_start_anew_in_each_window() -> None:
    watch, found = watching(Plan(), CUT), Profile(PartitionState(0, 1))
    for minute in range(40):
        rows = [prediction({"x": None, "colour": "red"}, 0.5)] * 2
        found.step(batch_of(rows, START_MS + minute * MINUTE_MS, 2 * minute), watch)
    assert found.events == []


def test_a_value_beyond_all_tails_is_told_at_once_and_one_beyond_the_bounds_when_they_are_many() -> None:
    baseline = baseline_of(10_000)
    x = baseline.signals["x"]
    assert events_of(baseline, [0.0, x.most * 1.01, 0.0], []) == [(1, "range")]
    small = baseline_of(200)
    x = small.signals["x"]
    assert x.high < 50 < x.most
    told = events_of(small, [50.0] * 30, [])
    assert told[0][0] == occurrences_needed(200, told[0][0] + 1, float(np.log(2 / 1e-6))) - 1 > 0


@pytest.mark.parametrize("rows", [200, 500, 1_000, 10_000])
@pytest.mark.parametrize("rate", [1e-4, 1e-3, 3e-3, 0.01])
def test_the_rate_of_false_alerts_keeps_the_budget_whatever_the_true_rate_is(rows: int, rate: float) -> None:
    """Two million records: nulls at a rate that the baseline may have missed, windows of a thousand."""
    rng = np.random.default_rng(int(rows * rate * 1e6))
    layout = Layout.of(baseline_of(rows), Plan())
    budget, null = float(layout.constraints.needed[1]), 0
    for _ in range(200):
        if rng.random(rows).min() < rate:
            continue  # the baseline has one itself: nothing is told
        is_null = rng.random((10, 1000)) < rate
        counts = is_null.cumsum(axis=1)
        null += int((is_null & (counts * np.log1p(rows / np.arange(1, 1001)) >= budget)).sum())
    assert null <= 6  # of two million records at most two are expected
    naive = rate * (1 - rate) ** rows * 2e6  # the control: one alert for each null
    assert naive > 6 or rate * rows >= 10


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_budget_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(OperatorError, match="events_per_million"):
        plan_from({"events_per_million": value})
