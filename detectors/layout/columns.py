"""From predictions to columns: one array per signal of one model version."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.layout.values import level_places, numbers
from driftline.detectors.layout.vector_layout import Layout


@dataclass(frozen=True, slots=True)
class Columns:
    """n records of one model version.

    Parameters
    ----------
    numeric
        Shape (numeric signals, n). NaN is missing; an infinity is a value that is not finite or not a number.
    finite
        Which numeric values are finite, shape (numeric signals, n).
    mistyped
        Which values are of the wrong type, shape (signals, n).
    cells
        Cell of the layout that each value is counted in, shape (signals, n).
    scores
        Normal scores of the numeric signals, shape (numeric signals, n); no meaning where not finite.
    """

    numeric: F64
    finite: Mask
    mistyped: Mask
    cells: I64
    scores: F64


class Chosen(NamedTuple):
    """Rows of a batch, shape (n,), and the layout that they are read by."""

    rows: I64
    layout: Layout


def columns(predictions: Sequence[Prediction], layout: Layout) -> Columns:
    """Turn records of one model version into columns."""
    [found] = columns_of(predictions, [Chosen(np.arange(len(predictions)), layout)])
    return found


def columns_of(predictions: Sequence[Prediction], chosen: Sequence[Chosen]) -> list[Columns]:
    """Turn records of several model versions into columns.

    Models whose signals have the same names and numeric markers are read together, in the order of the batch: so the
    records lie in memory, and a few rows of each of many models cost little more than as many rows of one.
    """
    alike: dict[tuple[tuple[object, ...], ...], list[int]] = {}
    for place, (_, layout) in enumerate(chosen):
        alike.setdefault((layout.numeric, layout.categorical, layout.markers), []).append(place)
    found: dict[int, Columns] = {}
    for places in alike.values():
        found |= zip(places, _read(predictions, [chosen[place] for place in places]), strict=True)
    return [found[place] for place in range(len(chosen))]


def _read(predictions: Sequence[Prediction], chosen: Sequence[Chosen]) -> Iterator[Columns]:
    """Read rows by layouts whose signals have the same names and numeric markers."""
    rows = np.concatenate([each.rows for each in chosen])
    order = rows.argsort()
    read = [predictions[row] for row in rows[order].tolist()]
    features, outputs = [each.features for each in read], [each.prediction for each in read]
    layout = chosen[0].layout
    cells, mistyped = (
        np.empty((len(layout.signals), rows.size), np.int64),
        np.empty((len(layout.signals), rows.size), np.bool_),
    )
    k = len(layout.numeric)
    numeric, mistyped[:k] = numbers(features, outputs, layout.numeric, layout.markers)
    reader = np.repeat(np.arange(len(chosen)), [each.rows.size for each in chosen])[order].tolist()
    for place, name in enumerate(layout.categorical):
        tables = [each.layout.levels[place] for each in chosen]
        cells[k + place], mistyped[k + place] = level_places(features, outputs, name, tables, reader)
    if len(chosen) > 1:  # rows of each layout side by side again
        back = order.argsort()
        numeric, mistyped, cells = numeric[:, back], mistyped[:, back], cells[:, back]
    finite = np.isfinite(numeric)
    ends = np.cumsum([each.rows.size for each in chosen]).tolist()
    for each, own in zip(chosen, map(slice, [0, *ends], ends), strict=True):
        scores = _placed(each.layout, numeric[:, own], finite[:, own], cells[:, own])
        yield Columns(numeric[:, own], finite[:, own], mistyped[:, own], cells[:, own], scores)


def _placed(layout: Layout, numeric: F64, finite: Mask, cells: I64) -> F64:
    """Turn places of levels into their cells, fill in those of numeric values, give their normal scores."""
    k = len(layout.numeric)
    cells[k:] += layout.starts[k:-1, None]
    with np.errstate(invalid="ignore"):  # infinity times a slope of 0: its score has no meaning
        scores = _search(numeric, layout, cells[:k])
    if not finite.all():
        missing = layout.missing_cell[:k, None]
        np.copyto(cells[:k], np.where(np.isnan(numeric), missing, missing + 1), where=~finite)
    return scores


def _search(numeric: F64, layout: Layout, cells: I64) -> F64:
    """One search per value: fills in its cell and gives its normal score. What is not finite gets no meaning yet."""
    table = layout.segments
    segment = np.empty(numeric.shape, np.int64)
    for place, cuts in enumerate(table.cuts):
        segment[place] = cuts.searchsorted(numeric[place], side="right")
    segment += table.first
    # No index is out of range; mode="clip" spares numpy the check and the copy that would undo a failed one.
    table.cell.take(segment, out=cells, mode="clip")
    scores = numeric - table.start.take(segment)
    scores *= table.slope.take(segment)
    scores += table.score.take(segment)
    return scores
