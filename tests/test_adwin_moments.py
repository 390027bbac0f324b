"""Which signals feed ADWIN, and what a baseline's rows would have fed it."""

from __future__ import annotations

import numpy as np
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.numeric import numeric_signal
from driftline.detectors.layout.columns import columns
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan
from driftline.detectors.windows.online_detectors import Online
from tests.logs import prediction

RNG = np.random.default_rng(0)
N = 4_000
FED = {
    "normal": RNG.normal(size=N),
    "zeros, but not most": np.where(RNG.random(N) < 0.45, 0.0, RNG.exponential(size=N)),
    "rating": RNG.integers(0, 10, N).astype(np.float64),
    "a fifth missing": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
}
NOT_FED = {
    "constant": np.full(N, 3.0),
    "nearly constant": np.where(RNG.random(N) < 0.999, 1.0, RNG.normal(size=N)),
    "rare flag": (RNG.random(N) < 0.02).astype(np.float64),
    "mostly zero": np.where(RNG.random(N) < 0.8, 0.0, RNG.exponential(size=N)),
    "mostly missing": np.where(RNG.random(N) < 0.8, np.nan, RNG.normal(size=N)),
    "only missing": np.full(N, np.nan),
}


@pytest.mark.parametrize("kind", NOT_FED)
def test_a_column_of_which_one_value_or_none_has_most_rows_is_not_fed(kind: str) -> None:
    assert numeric_signal(NOT_FED[kind]).fed == []
    layout = Layout.of(fit("m", "1", {"x": [None if np.isnan(v) else v for v in NOT_FED[kind].tolist()]}), Plan())
    assert layout.adwins == ()


@pytest.mark.parametrize("kind", FED)
def test_the_moments_are_those_of_what_the_baseline_s_own_rows_feed(kind: str) -> None:
    values = [None if np.isnan(v) else v for v in FED[kind].tolist()]
    layout = Layout.of(fit("m", "1", {"x": values}), Plan())
    seen = columns([prediction({"x": value}, 0.0) for value in values], layout)
    location = np.where(seen.finite[0], seen.scores[0], 0.0)
    spread = np.where(seen.finite[0], np.minimum(seen.scores[0] ** 2, 9.0), 1.0)
    [level, scale] = layout.adwins
    assert level.fed == pytest.approx((location.mean(), location.std()), abs=6e-4)
    assert scale.fed == pytest.approx((spread.mean(), spread.std()), abs=6e-4)


@pytest.mark.parametrize("kind", FED)
def test_the_baselines_own_rows_are_no_change_and_shifted_ones_are(kind: str) -> None:
    values = FED[kind]
    layout = Layout.of(fit("m", "1", {"x": [None if np.isnan(v) else v for v in values.tolist()]}), Plan())
    again = np.random.default_rng(1).permutation(values)
    for shift, is_change in ((0.0, False), (float(np.nanstd(values)), True)):
        rows = [prediction({"x": None if np.isnan(v) else v + shift}, 0.0) for v in again.tolist()]
        assert bool(Online.fresh(layout).feed(columns(rows, layout))) == is_change


def test_all_partitions_begin_alike() -> None:
    layout = Layout.of(fit("m", "1", {"x": FED["normal"].tolist()}), Plan())
    first, second = Online.fresh(layout), Online.fresh(layout)
    assert [each.__getstate__() for each in first.windows] == [each.__getstate__() for each in second.windows]
    assert first.windows[0] is not second.windows[0]
