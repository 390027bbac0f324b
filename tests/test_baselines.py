"""The follower of topic ``baselines``: what is no baseline is counted and passed over."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from driftline.detectors.plan import Plan
from driftline.detectors.watch import Watch
from driftline.streams.baselines import BaselineFollower
from driftline.streams.metrics import Metrics
from driftline.streams.stages import Shared
from tests.test_outlier_profile import changed, valid

Consumer: Any = object


@pytest.mark.parametrize("place", ["leaves", "tail", "features"])
def test_a_sealed_baseline_with_a_damaged_profile_is_counted_and_the_next_one_taken(place: str) -> None:
    value = {"leaves": "AAAA", "tail": [], "features": ["x", "y", "nobody"]}[place]
    shared = Shared(Watch(Plan()), 1, 1, 2**20, Metrics("test"))
    follower = BaselineFollower(Consumer(), "baselines", 1, shared)
    for offset, raw in enumerate([changed(f"outliers.{place}", value), b"{}", valid()]):
        follower._take_one(SimpleNamespace(value=raw, partition=0, offset=offset))
        assert len(shared.watch.layouts) == (offset == 2)
    [refused] = [
        sample.value
        for metric in shared.metrics.refused_baselines.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    ]
    assert refused == 2
    assert orjson.loads(valid())["hash"] == shared.watch.layouts["m", "1"][0].baseline.hash
