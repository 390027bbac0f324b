"""The scorecard's smallest cells: nothing that drifts where nothing moved, and a shift that is found."""

from __future__ import annotations

import pytest

from tests.scorecard import DRIFT_BAR, DRIFTS, SIGNALS, Cell, failures, found_drifts, interval, page, quiet


def test_windows_without_drift_are_not_shown_to_drift_more_often_than_the_bar_allows() -> None:
    """Sixty windows: were one in ten to drift, this would fail in 98 of 100 such tests."""
    cell = Cell(1000, 200)
    for seed in range(4):
        cell.add(quiet(100 + seed, cell.m, cell.n, 15))
    assert cell.windows == 60
    assert 100 * interval(cell.drifts, cell.windows)[0] <= DRIFT_BAR, cell.messages


def test_a_first_window_of_each_drift_is_found() -> None:
    assert found_drifts(7, 1) == dict.fromkeys(DRIFTS, 1)


def test_a_card_with_a_cell_beyond_its_bar_says_so() -> None:
    good, bad = Cell(500, 200, 1000, 2, 5), Cell(500, 1000, 100, 20, 1)
    assert failures([good], {}, 0) == []
    [said] = failures([good, bad], {}, 0)
    assert "m = 500, n = 1000: drift" in said
    assert "FAILS" in page([good, bad], {}, 0)
    assert len(SIGNALS) == 20


@pytest.mark.parametrize(("hits", "runs"), [(0, 10), (10, 10), (3, 2000)])
def test_an_interval_holds_its_rate(hits: int, runs: int) -> None:
    low, high = interval(hits, runs)
    assert 0 <= low <= hits / runs <= high <= 1
