"""Open windows: whatever their width in memory, they count as 64 bits would."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest

from driftline.detectors.errors import DamagedState
from driftline.detectors.layout.vector_layout import LATE, OUTLIERS, SCORED, N
from driftline.detectors.plan import Plan
from driftline.detectors.snapshots import profile_snapshot
from driftline.detectors.windows.model_state import Cell, OpenWindow
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import START_MS, plain, watching

if TYPE_CHECKING:
    from driftline.detectors.arrays import I64

WATCH = watching(Plan(), plain())
LAYOUT = WATCH.layouts["m", "1"][0]


def rows_of(n: int, seed: int) -> I64:
    """A cell per signal and record; the first signal's is always the same, so that its count is as high as can be."""
    rng = np.random.default_rng(seed)
    ends = LAYOUT.starts
    cells = np.stack([rng.integers(first, last, n) for first, last in itertools.pairwise(ends)])
    cells[0] = ends[0]
    return cells


@pytest.mark.parametrize("sizes", [[255, 1], [1, 255], [256], [200, 100, 65_235, 1], [65_535, 0, 1, 70_000], [0, 3]])
def test_counts_do_not_wrap_where_their_type_ends(sizes: list[int]) -> None:
    window, expected = OpenWindow.empty(LAYOUT), LAYOUT.zero()
    for seed, n in enumerate(sizes):
        cells, broken = rows_of(n, seed), np.zeros(n, np.int64)
        window.add(cells)
        window.add_violations(broken, broken)
        window.add_scored(np.ones(n, np.bool_))
        window.add_late(2 * n)
        np.add.at(expected, cells, 1)
        LAYOUT.violations(expected)[0, 0] += n
        for place, times in ((N, 1), (SCORED, 1), (OUTLIERS, 1), (LATE, 2)):
            expected[place] += times * n
        assert window.vector.tolist() == expected.tolist()


@pytest.mark.parametrize("highest", [2**8 - 1, 2**16 - 1, 2**32 - 1])
@pytest.mark.parametrize("place", [N, LATE])
def test_a_restored_window_widens_as_the_one_before_would(highest: int, place: int) -> None:
    before = OpenWindow.empty(LAYOUT)
    before.vector = LAYOUT.zero()
    before.vector[place] = highest
    window = restored(before)
    assert window.vector.tolist() == before.vector.tolist()
    assert window.vector.nbytes < before.vector.nbytes

    window.add(rows_of(1, 0))
    window.add_late(1)
    assert int(window.vector[place]) == highest + 1
    assert int(window.vector[LAYOUT.starts[0]]) == 1


@pytest.mark.parametrize("place", [SCORED, -1, int(LAYOUT.starts[0])])
def test_more_of_anything_than_there_were_records_is_damage(place: int) -> None:
    window = OpenWindow.empty(LAYOUT)
    window.add(rows_of(7, 0))
    window.vector[place] = 8
    with pytest.raises(DamagedState, match="counts of no records"):
        restored(window)


def restored(window: OpenWindow) -> OpenWindow:
    state = PartitionState(0, 1, next_offset=1, cells={("m", "1"): Cell(("m", "1"), 1, {START_MS: window})})
    found, damaged = profile_snapshot.load(0, 1, dict(profile_snapshot.dump(state, WATCH)), WATCH)
    for error in damaged.values():
        raise error
    return found.cells["m", "1"].windows[START_MS]
