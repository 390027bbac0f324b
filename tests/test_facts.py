"""What driftline promises in numbers, each on a stream made for it."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import norm

from driftline.detectors.baselines.fit import fit
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.statistics.distances import psi
from tests.logs import MINUTE_MS, START_MS, by_the_minute, prediction, watching

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.documents.baseline import Baseline
    from driftline.detectors.documents.predictions import Prediction
    from tests.logs import Outcome

CITIES = ["Berlin", "Paris", "Rome", "Warsaw"]


def people(n: int, seed: int) -> dict[str, list[Any]]:
    """Columns of a model that prices houses."""
    rng = np.random.default_rng(seed)
    return {
        "Age": rng.normal(45, 12, n).clip(18, 90).round().tolist(),
        "square_footage": np.exp(rng.normal(7, 0.5, n)).clip(100, 10_000).tolist(),
        "city": rng.choice(CITIES, n, p=[0.4, 0.3, 0.2, 0.1]).tolist(),
        "prediction": rng.gamma(2, 100_000, n).tolist(),
    }


@cache
def trained() -> Baseline:
    return fit("houses", "1", people(10_000, 0))


def records(columns: Mapping[str, Sequence[Any]], model: str) -> list[Prediction]:
    """Rows of columns."""
    names = [name for name in columns if name != "prediction"]
    return [
        prediction(dict(zip(names, values, strict=True)), output, model)
        for *values, output in zip(*(columns[name] for name in names), columns["prediction"], strict=True)
    ]


def alerts(change: dict[str, list[Any]], plan: Plan | None = None, baseline: Baseline | None = None) -> list[Alert]:
    """All alerts, of any kind, of one window of 1000 records in which some columns are changed."""
    rows = records(people(1000, 1) | change, "houses")
    outcome = by_the_minute(watching(plan or Plan(), baseline or trained()), rows)
    assert outcome.final["houses", "1", START_MS].n == 1000
    return [*outcome.events, *outcome.judged.alerts]


def with_value(name: str, row: int, value: Any) -> dict[str, list[Any]]:
    column = people(1000, 1)[name]
    return {name: [*column[:row], value, *column[row + 1 :]]}


def test_a_window_like_the_baseline_raises_no_alert() -> None:
    assert alerts({}) == []


def test_psi_of_half_a_sigma_is_27_hundredths_between_samples_of_500() -> None:
    """The population's value is .238 in tenths (.25 without bins); samples add 9 (1/500 + 1/500) = .036 on average."""
    edges = norm.ppf(np.arange(1, 10) / 10)
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        reference, current = (
            np.bincount(edges.searchsorted(rng.normal(mean, 1, 500), side="right"), minlength=10) for mean in (0.0, 0.5)
        )
        found += psi(reference[None], current[None], np.zeros((1, 10))).tolist()
    assert np.mean(found) == pytest.approx(0.27, rel=0.1)
    before, after = ((np.diff([0, *norm.cdf(edges - mean), 1]) * 1e12).astype(np.int64) for mean in (0.0, 0.5))
    [population] = psi(before[None], after[None], np.zeros((1, 10))).tolist()
    assert population == pytest.approx(0.238, abs=0.001)
    assert np.mean(found) == pytest.approx(population + 9 * (1 / 500 + 1 / 500), abs=0.01)


def test_an_age_of_200_is_flagged_on_that_record() -> None:
    [alert] = alerts(with_value("Age", 137, 200))
    assert alert.origin is not None
    assert (alert.kind, alert.signal, alert.detector, alert.value) == ("data_quality", "Age", "range", 200.0)
    assert (alert.origin.partition, alert.origin.offset) == (0, 137)
    assert "Age = 200 lies outside" in alert.summary


def test_minus_five_square_feet_are_counted_and_one_record_far_beyond_all_tails_is_told() -> None:
    """The smallest of 10 000 houses has 100 square feet: that proves no limit at 0, and none at a million either."""
    rows = records(people(1000, 1) | with_value("square_footage", 7, -5), "houses")
    outcome = by_the_minute(watching(Plan(), trained()), rows)
    assert outcome.final["houses", "1", START_MS].violations == {"square_footage": {"range": 1}}
    assert [*outcome.events, *outcome.judged.alerts] == []
    [alert] = alerts(with_value("square_footage", 7, 10**9))
    assert (alert.kind, alert.detector, alert.value) == ("data_quality", "range", 1e9)


def test_minus_five_square_feet_are_one_event_by_the_range_that_the_plan_gives() -> None:
    rule = {"range": {"low": 100, "high": 10_000}}
    plan = plan_from({"models": {"houses": {"signals": {"square_footage": {"detectors": rule}}}}})
    [alert] = alerts(with_value("square_footage", 7, -5), plan)
    assert (alert.kind, alert.detector, alert.value, alert.threshold) == ("data_quality", "range", -5.0, 100.0)
    assert "square_footage = -5 lies outside [100, 10000]" in alert.summary
    [alert] = alerts(with_value("square_footage", 7, 50), plan)  # which the baseline's range would let pass
    assert alert.value == 50.0


def test_a_fifth_of_ages_missing_where_none_was_is_a_missing_values_alert() -> None:
    ages = [None if row % 5 == 0 else age for row, age in enumerate(people(1000, 1)["Age"])]
    firing = [alert for alert in alerts({"Age": ages}) if alert.state == "firing"]
    assert [(alert.kind, alert.signal, alert.detector) for alert in firing] == [("data_quality", "Age", "missing")]
    assert "missing: 0.0% -> 20.0%" in firing[0].summary


def test_a_level_that_10_000_baseline_records_never_had_is_told_once_it_is_beyond_chance() -> None:
    """None of 10 000 allows for 3 in 10 000: one record is no news, and five of a window's first 510 are."""
    assert alerts(with_value("city", 500, "Atlantis")) == []
    cities = people(1000, 1)["city"]
    changed = [*cities[:500], *["Atlantis"] * 5, *cities[505:]]
    told = [alert for alert in alerts({"city": changed}) if alert.state == "event"]
    assert [(each.kind, each.detector, each.signal) for each in told] == [("data_quality", "category", "city")]
    assert told[0].origin is not None
    assert told[0].origin.offset == 504


def test_a_share_of_such_a_level_is_one_firing_alert_beside_the_first_records() -> None:
    cities = ["Atlantis" if row % 20 == 0 else city for row, city in enumerate(people(1000, 1)["city"])]
    found = alerts({"city": cities})
    assert Counter((alert.state, alert.detector) for alert in found) == {
        ("event", "category"): 3,
        ("firing", "unseen"): 1,
    }


# The budget of false alarms


def varied(n: int, rng: np.random.Generator) -> dict[str, list[Any]]:
    """20 signals of all shapes: normal, lognormal, heavy tails, ties, nulls; two, eight and sixty levels."""
    columns: dict[str, list[Any]] = {f"normal{place}": rng.normal(size=n).tolist() for place in range(4)}
    columns |= {f"lognormal{place}": np.exp(rng.normal(size=n)).tolist() for place in range(3)}
    columns |= {f"heavy{place}": rng.standard_t(3, size=n).tolist() for place in range(3)}
    columns |= {f"count{place}": rng.poisson(3, size=n).tolist() for place in range(2)}
    gaps = [(rng.random(n) < share).tolist() for share in (0.02, 0.3)]
    columns |= {
        f"gaps{place}": [None if gap else value for gap, value in zip(mask, rng.normal(size=n).tolist(), strict=True)]
        for place, mask in enumerate(gaps)
    }
    for place, levels in enumerate((2, 2, 8, 8, 60)):
        zipf = 1 / np.arange(1, levels + 1)
        columns[f"level{place}"] = rng.choice([f"L{each}" for each in range(levels)], n, p=zipf / zipf.sum()).tolist()
    return columns | {"prediction": rng.beta(2, 5, size=n).tolist()}


def no_drift(seed: int, n_windows: int, n: int, m: int = 10_000) -> Outcome:
    """A stream that never changes, under shipped defaults."""
    rng = np.random.default_rng(seed)
    baseline = fit("steady", "1", varied(m, rng))
    assert len(baseline.signals) == 20
    rows = records(varied(n * n_windows, rng), "steady")
    return by_the_minute(watching(Plan(), baseline), *[rows[place : place + n] for place in range(0, n * n_windows, n)])


def test_a_hundred_windows_without_drift_raise_next_to_no_alarm_of_any_kind() -> None:
    outcome = no_drift(1, 100, 1000)
    final = outcome.final
    assert len(final) == 100
    assert set(final) == {("steady", "1", START_MS + minute * MINUTE_MS) for minute in range(100)}
    assert sum(verdict.drift is not False for verdict in final.values()) <= 2
    told = [*outcome.events, *outcome.judged.alerts]
    assert len([alert for alert in told if alert.state != "resolved"]) <= 3
