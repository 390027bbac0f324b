"""Fitted tails: chances and distances that are each other's inverse, and more caution where there are fewer values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.outlier_profile import Tail
from driftline.detectors.statistics import tails

some_tails = st.builds(
    Tail,
    start=st.floats(0.1, 100),
    share=st.floats(0.001, 0.1),
    excess=st.floats(0.01, 2),
    k=st.integers(25, 1000),
    relative=st.booleans(),
)


@given(tail=some_tails, chance=st.floats(1e-9, 1e-3))
def test_the_distance_of_a_chance_has_that_chance(tail: Tail, chance: float) -> None:
    far = tails.reach(tail, min(chance, tail.share))
    [found] = tails.chance_beyond(tail, np.array([far])).tolist()
    assert found == pytest.approx(min(chance, tail.share), rel=1e-5)


@given(tail=some_tails, steps=st.lists(st.floats(0, 1e12), min_size=2))
def test_chances_fall_and_never_reach_0(tail: Tail, steps: list[float]) -> None:
    chances = tails.chance_beyond(tail, np.sort(np.array(steps)))
    assert (np.diff(chances) <= 0).all()
    assert (chances > 0).all()


def test_fewer_values_reach_farther() -> None:
    reaches = [
        tails.reach(Tail(start=1.0, share=0.02, excess=0.3, k=k, relative=False), 1e-6) for k in (25, 50, 200, 10_000)
    ]
    assert reaches == sorted(reaches, reverse=True)
    assert reaches[-1] == pytest.approx(1 + 0.3 * np.log(0.02 / 1e-6), rel=1e-3)


@pytest.mark.parametrize("values", [np.zeros(500), np.arange(20.0), np.repeat([0.0, 3.0], [490, 10])])
def test_too_few_values_make_no_tail(values: np.ndarray) -> None:
    assert tails.fitted(values) is None
