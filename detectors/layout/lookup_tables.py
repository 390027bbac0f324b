"""Tables by which one search gives a value's bin and its normal score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.detectors.arrays import F64, I64
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.statistics.normal_scores import knots

TINY = 1e-250
"""Widths below it have no usable reciprocal."""


@dataclass(frozen=True)
class Segments:
    """Piecewise-linear tables by which one search per value gives both its bin and its normal score.

    Parameters
    ----------
    cuts
        Per numeric signal, ascending knots of the normal scores, bin edges among them; k cuts make k + 1 segments.
    first
        Place of each signal's first segment among the segments of all, shape (signals, 1).
    cell
        Index of the flat vector's cell for each segment, shape (segments of all signals,).
    start, score, slope
        A value x in a segment has the score ``score + slope * (x - start)``; same shape.
    """

    cuts: list[F64]
    first: I64
    cell: I64
    start: F64
    score: F64
    slope: F64

    @classmethod
    def of(cls, signals: Sequence[NumericSignal], starts: I64) -> "Segments":
        """Tables of signals whose cells begin there in the flat vector; there may be more starts than signals."""
        rows = [_table(signal, int(start)) for signal, start in zip(signals, starts, strict=False)]
        cuts = [row[0] for row in rows]
        first = np.cumsum([0, *(each.size + 1 for each in cuts)])[:-1, None]
        cell, *tables = (np.concatenate([row[place] for row in rows] or [np.zeros(0)]) for place in range(1, 5))
        return cls(cuts, first, cell.astype(np.int64), *tables)

    def scores(self, values: F64) -> F64:
        """Normal scores of finite values, shape (signals, n)."""
        segment = self.first + np.array(
            [cuts.searchsorted(row, "right") for cuts, row in zip(self.cuts, values, strict=True)]
        )
        found: F64 = self.score[segment] + self.slope[segment] * (values - self.start[segment])
        return found


def _table(signal: NumericSignal, first_cell: int) -> tuple[F64, I64, F64, F64, F64]:
    """Cuts, and per segment its cell, start, score at the start and slope."""
    edges = np.array(signal.edges, np.float64)
    cuts, at_cuts = knots(edges, np.array(signal.counts), np.array(signal.tails))
    start = np.concatenate([cuts[:1], cuts])
    score = np.concatenate([at_cuts[:1], at_cuts])
    widths = np.diff(cuts)
    # Cuts a few units of rounding apart stand beside a constant; there is nothing to interpolate between them.
    steps = np.divide(np.diff(at_cuts), widths, out=np.zeros_like(widths), where=widths > TINY)
    slope = np.concatenate([[0.0], steps, [0.0]])
    cells = first_cell + np.concatenate([[0], edges.searchsorted(cuts, side="right")])
    return cuts, cells, start, score, slope
