from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import CategoricalSignal, NumericSignal
from driftline.detectors.layout.columns import columns
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.layout.vector_layout import TOTALS, Layout, N
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.statistics.normal_scores import knots
from tests.logs import churn, plain, prediction

LAYOUT = Layout.of(churn(), Plan())


def numeric(name: str) -> NumericSignal:
    signal = LAYOUT.baseline.signals[name]
    assert isinstance(signal, NumericSignal)
    return signal


def test_totals_signals_and_violations_fill_the_vector_without_a_gap_or_an_overlap() -> None:
    vector = LAYOUT.zero()
    vector[: len(TOTALS)] += 1
    for name in LAYOUT.signals:
        cells = LAYOUT.cells(vector, name)
        assert cells.size == len(LAYOUT.baseline.signals[name].counts) + (2 if name in LAYOUT.numeric else 3)
        cells += 1
    LAYOUT.violations(vector)[:] += 1
    assert LAYOUT.violations(vector).shape == (len(CONSTRAINTS), len(LAYOUT.signals))
    assert vector.tolist() == [1] * LAYOUT.size


def test_numbers_come_first_each_kind_in_the_order_of_the_baseline() -> None:
    assert LAYOUT.numeric == ("age", "income", "prediction")
    assert LAYOUT.categorical == ("country", "device")


def test_the_baseline_itself_is_such_a_vector() -> None:
    reference = LAYOUT.reference
    assert reference[N] == 1000
    assert {LAYOUT.cells(reference, name).sum() for name in LAYOUT.signals} == {1000}
    assert LAYOUT.cells(reference, "income")[-2] == numeric("income").missing > 0
    country = LAYOUT.baseline.signals["country"]
    assert isinstance(country, CategoricalSignal)
    assert LAYOUT.cells(reference, "country").tolist() == [*country.counts, 0, 0, 0]


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), name=st.sampled_from(["age", "income"]))
def test_one_search_gives_the_bin_and_the_normal_score(values: list[float], name: str) -> None:
    signal = numeric(name)
    edges = [*signal.edges, *signal.tails]
    column = np.array([*values, *edges])
    seen = columns([prediction({name: float(value)}, 0.5, "churn") for value in column], LAYOUT)
    place = LAYOUT.numeric.index(name)
    bins = seen.cells[place] - LAYOUT.starts[place]
    assert bins.tolist() == np.array(signal.edges).searchsorted(column, side="right").tolist()
    at, scores = knots(np.array(signal.edges), np.array(signal.counts), np.array(signal.tails))
    assert seen.scores[place] == pytest.approx(np.interp(column, at, scores), abs=1e-9)


def test_bins_stand_for_their_middle_and_the_tails_reach_to_the_extremes() -> None:
    signal, found = numeric("age"), LAYOUT.positions["age"]
    assert (np.diff(found) > 0).all()
    assert found[0] == pytest.approx((signal.tails[0] + signal.edges[0]) / 2 / signal.sd)
    assert found[-1] == pytest.approx((signal.edges[-1] + signal.tails[-1]) / 2 / signal.sd)


def test_a_constant_and_a_column_of_nulls_can_be_laid_out() -> None:
    baseline = fit("m", "1", {"constant": [3.0] * 20, "empty": [None] * 20})
    layout = Layout.of(baseline, Plan())
    seen = columns([prediction({"constant": value}) for value in (2.0, 3.0, 4.0)], layout)
    assert (seen.cells[0] - layout.starts[0]).tolist() == [0, 1, 2]
    assert np.isfinite(layout.positions["constant"]).all()
    assert layout.masses is None


def test_bounds_are_the_plans_before_the_baselines_and_open_where_the_check_is_off() -> None:
    plan = plan_from(
        {
            "models": {
                "churn": {
                    "signals": {
                        "age": {"detectors": {"range": {"high": 120}}},
                        "income": {"detectors": {"range": {"enabled": False, "low": 0}}},
                    }
                }
            }
        }
    )
    low, high = Layout.of(churn(), plan).constraints.bounds
    own = [(numeric(name).low, numeric(name).high) for name in ("age", "income", "prediction")]
    assert list(zip(low, high, strict=True)) == [(own[0][0], 120.0), (-np.inf, np.inf), own[2]]


def test_only_what_the_baseline_never_did_is_a_constraint() -> None:
    held = {name: set(np.array(LAYOUT.signals)[mask]) for name, mask in LAYOUT.constraints.armed.items()}
    assert held["null"] == {"age", "prediction", "country"}  # income and device had nulls
    assert held["category"] == {"country", "device"}
    assert held["finite"] == held["range"] == {"age", "income", "prediction"}
    rare = fit("m", "1", {"colour": ["red"] * 99 + ["mauve"], "x": [1.0] * 99 + [float("inf")]})
    armed = Layout.of(rare, Plan()).constraints.armed
    assert not armed["category"].any()  # a level that was seen once: others are to be expected
    assert not armed["finite"].any()


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_each_constraint_can_be_switched_off(constraint: str) -> None:
    plan = plan_from({"detectors": {constraint: {"enabled": False}}})
    assert not Layout.of(plain(), plan).constraints.armed[constraint].any()
    assert Layout.of(plain(), Plan()).constraints.armed[constraint].any()
