"""The online detectors of one model version in one partition: ADWIN per numeric signal, half-space trees per record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.layout.columns import Columns
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.online.adwin import Window, feed_all, seeded
from driftline.detectors.online.adwin_streams import STREAMS
from driftline.detectors.online.halfspace import Masses, score_and_learn
from driftline.detectors.online.outliers import leaf_numbers


class Change(NamedTuple):
    """A change point: at which row, of which signal, by which detector, from which mean to which."""

    row: int
    signal: str
    detector: str
    before: float
    after: float


@dataclass(slots=True)
class Online:
    """State of the detectors.

    Parameters
    ----------
    layout
        Baseline that gives the normal scores and the trees' ranges; another baseline means fresh detectors.
    windows
        ADWIN windows, in the order of the layout's ``adwins``.
    masses
        Half-space tree masses; None where they are off or no feature is numeric.
    """

    layout: Layout
    windows: list[Window]
    masses: Masses | None = None

    @classmethod
    def fresh(cls, layout: Layout) -> "Online":
        """Detectors that have seen nothing but the baseline: its rows, as far as moments go, and its last leaves."""
        windows = [seeded(each.delta, *each.fed, layout.baseline.n) for each in layout.adwins]
        return cls(layout, windows, layout.masses if layout.rule("half_space_trees").enabled else None)

    def feed(self, seen: Columns) -> list[Change]:
        """Feed normal scores in log order; the changes come in log order too, then by detector and signal."""
        changes: list[Change] = []
        start = 0
        for name, stream in STREAMS.items():
            own, rows = [each for each in self.layout.adwins if each.detector == name], stream(seen.scores, seen.finite)
            if len(own) < len(rows):
                rows = rows[[each.row for each in own]]
            here = slice(start, start + len(own))
            windows = self.windows[here]
            for adwin, found in zip(own, feed_all(windows, [each.delta for each in own], rows), strict=True):
                changes += [Change(each.row, adwin.signal, name, each.before, each.after) for each in found]
            self.windows[here], start = windows, here.stop
        return sorted(changes, key=lambda change: change.row)  # however the log was cut into batches


def outlier_scores(fed: Sequence[tuple[Online | None, Columns]]) -> list[F64 | None]:
    """Score rows against the masses of their model's trees, learn them, and return the scores, shape (n,).

    Models with equally many features share their trees, so their rows go down together: a few rows of each of many
    models cost as much as many rows of one. None where there are no trees.
    """
    found: list[F64 | None] = [None] * len(fed)
    forests: dict[int, list[tuple[int, Online, Columns]]] = {}
    for place, (online, seen) in enumerate(fed):
        if online is not None and online.masses is not None:
            forests.setdefault(len(online.layout.tree_rows), []).append((place, online, seen))
    for forest in forests.values():
        leaf = leaf_numbers(np.concatenate([_unit_rows(online, seen) for _, online, seen in forest]))
        start = 0
        for place, online, seen in forest:
            stop = start + seen.numeric.shape[1]
            assert online.masses is not None
            found[place], online.masses = score_and_learn(online.masses, leaf[start:stop])
            start = stop
    return found


def _unit_rows(online: Online, seen: Columns) -> F64:
    """Coordinates in the trees' unit cube, shape (n, features)."""
    scale = online.layout.outlier_scale
    assert scale is not None  # where there are masses, there are trees
    return scale.unit_rows(seen.numeric[online.layout.tree_rows])
