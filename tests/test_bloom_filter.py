"""Sets of levels beyond the cap: what is in them is always found, what is not seldom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.bloom_filter import FurtherLevels, is_level_set, packed


@given(st.sets(st.text(max_size=20), max_size=60))
def test_every_level_of_the_set_is_found_in_it(levels: set[str]) -> None:
    further = FurtherLevels(packed(levels))
    assert is_level_set(packed(levels))
    assert all(level in further for level in levels)
    assert bool(further) == bool(levels)


@pytest.mark.parametrize(("n", "most"), [(50, 0.005), (900, 0.005), (3000, 0.1), (10_000, 0.8)])
def test_a_level_that_was_never_seen_is_seldom_taken_for_one_of_the_set(n: int, most: float) -> None:
    further = FurtherLevels(packed([f"shop {each}" for each in range(n)]))
    mistaken = sum(f"other {each}" in further for each in range(5000)) / 5000
    assert mistaken <= most
    assert mistaken == pytest.approx(further.mistaken, abs=0.02)


def test_a_set_of_any_size_is_at_most_three_kilobytes_of_text() -> None:
    assert len(packed([str(each) for each in range(100_000)])) < 3000


@pytest.mark.parametrize("text", ["x", "AAA", "AAAA", "A" * 4096])
def test_other_texts_are_no_such_set(text: str) -> None:
    assert not is_level_set(text)
