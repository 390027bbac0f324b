"""Single records that break what the baseline never broke: at most a few alerts per window, the rest counted."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.documents.alerts import Alert, Kind, Origin, Severity, Window, subject
from driftline.detectors.documents.new_levels import quoted
from driftline.detectors.layout.columns import Columns
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.online.outliers import chance_of


class Violations(NamedTuple):
    """Values that break a constraint, in log order, then by constraint, then by signal; three arrays of one shape."""

    rows: I64
    constraints: I64
    signals: I64


NONE = Violations(*np.empty((3, 0), np.int64))


def violations(seen: Columns, layout: Layout) -> Violations:
    """Find every value that breaks an armed constraint; and of the wrong type, also where the baseline has such."""
    k = len(layout.numeric)
    missing = layout.missing_cell[:, None]
    low, high = layout.constraints.bounds
    all_finite, all_known = bool(seen.finite.all()), bool((seen.cells[k:] < missing[k:] - 1).all())
    with np.errstate(invalid="ignore"):  # NaN compares as inside
        outside = (seen.numeric < low[:, None]) | (seen.numeric > high[:, None])
    found = [*_places(outside & seen.finite, layout.constraints.armed["range"], "range", 0)]
    if not (all_finite and all_known):
        found += _places((seen.cells == missing) & ~seen.mistyped, layout.constraints.armed["null"], "null", 0)
        found += _places(seen.cells[k:] == missing[k:] - 1, layout.constraints.armed["category"], "category", k)
    if not all_finite:
        found += _places(np.isinf(seen.numeric) & ~seen.mistyped[:k], layout.constraints.armed["finite"], "finite", 0)
    if seen.mistyped.any():
        found += _places(seen.mistyped, layout.typed, "type", 0)
    if not found:
        return NONE
    table = np.concatenate(found, axis=1)
    return Violations(*table[:, np.lexsort((table[2], table[1], table[0]))])


def armed(broken: Violations, layout: Layout) -> Violations:
    """Those that are worth an event: numbers as text are none where the baseline has some, however they are counted."""
    table = np.array([layout.constraints.armed[constraint] for constraint in CONSTRAINTS])
    kept = table[broken.constraints, broken.signals]
    return broken if kept.all() else Violations(*(part[kept] for part in broken))


def _places(broken: Mask, held: Mask, constraint: str, first: int) -> Iterator[I64]:
    """Rows, constraint and signals at which a mask of shape (signals from ``first`` on, n) holds, shape (3, hits)."""
    if broken.any():
        signals, rows = (broken & held[first : first + len(broken), None]).nonzero()
        yield np.array([rows, np.full_like(rows, CONSTRAINTS.index(constraint)), signals + first])


def worth_telling(broken: Violations, seen: Columns, layout: Layout, before: I64, positions: I64) -> Violations:
    """The values that are told, each by itself: those far beyond all bounds, and those that are too many for chance.

    Parameters
    ----------
    broken
        Violations of one window's records in a batch.
    seen, layout
        The batch's records, and what they are held against.
    before
        The window's violations until then, shape (constraints, signals).
    positions
        How many of the window's records there were up to each record of the batch, with it, shape (n,).
    """
    rows, constraints, signals = broken
    code = constraints * len(layout.signals) + signals
    order = code.argsort(kind="stable")
    firsts = np.unique(code[order], return_index=True)[1]
    nth = np.empty_like(code)
    nth[order] = np.arange(code.size) - np.repeat(firsts, np.diff([*firsts, code.size])) + 1
    counts = before.ravel()[code] + nth
    told = layout.constraints.are_beyond_chance(constraints, signals, counts, positions[rows])
    far = (constraints == CONSTRAINTS.index("range")).nonzero()[0]
    least, most = layout.constraints.certain
    values, of = seen.numeric[signals[far], rows[far]], signals[far]
    told[far] |= (values < least[of]) | (values > most[of])
    return Violations(*(each[told] for each in broken))


class Record(NamedTuple):
    """The record that an event is about."""

    origin: Origin
    window: Window
    event_ms: int


def constraint_event(record: Record, layout: Layout, constraint: str, signal: str, value: float | str) -> Alert:
    """Alert for one value that breaks a constraint: a number, infinite where there is no finite one, or a level.

    Of a sensitive signal neither the value nor the bound is told.
    """
    told = float(value) if not isinstance(value, str) and np.isfinite(value) else None
    bound, phrase = _PHRASES[constraint](layout, signal, value)
    if signal in layout.sensitive:
        told, bound, phrase = None, None, _DISCREET.get(constraint, phrase)
    return _event(record, layout, "data_quality", "warning", signal, constraint, told, bound, phrase)


def outlier_event(record: Record, layout: Layout, score: float) -> Alert:
    """Alert for one record that is unlike the baseline's as a whole."""
    profile = layout.baseline.outliers
    assert profile is not None  # it gave the score
    p_value = chance_of(profile, score)
    phrase = f"is unlike any of the baseline's {layout.baseline.n} records taken together (p = {p_value:.1g})"
    return _event(
        record, layout, "outlier", "warning", "", "half_space_trees", p_value, _of(layout, "half_space_trees"), phrase
    )


def joint_event(record: Record, layout: Layout, p_value: float) -> Alert:
    """Alert for one record that is far out in several features at once."""
    phrase = f"is far out in several features at once, unlike the baseline's {layout.baseline.n} (p = {p_value:.1g})"
    return _event(record, layout, "outlier", "warning", "", "joint_range", p_value, _of(layout, "joint_range"), phrase)


def _of(layout: Layout, detector: str) -> float | None:
    return layout.rule(detector).threshold


def _event(  # noqa: PLR0913 - one place fills in what all events share
    record: Record,
    layout: Layout,
    kind: Kind,
    severity: Severity,
    signal: str,
    detector: str,
    value: float | None,
    threshold: float | None,
    phrase: str,
) -> Alert:
    baseline, place = layout.baseline, record.origin
    what = f"{signal} " if signal else "this record "
    return Alert(
        state="event",
        kind=kind,
        severity=severity,
        model=baseline.model,
        version=baseline.version,
        signal=signal,
        detector=detector,
        value=value,
        threshold=threshold,
        p_value=value if kind == "outlier" else None,
        n=1,
        window=record.window,
        time_ms=record.event_ms,
        origin=place,
        baseline=baseline.hash,
        plan=layout.plan_hash,
        summary=f"{subject(baseline)}: {what}{phrase}; see {place.topic}[{place.partition}] offset {place.offset}.",
    ).identified()


def _outside(layout: Layout, signal: str, value: float) -> tuple[float | None, str]:
    place = layout.numeric.index(signal)
    low, high = (float(each[place]) for each in layout.constraints.bounds)
    bound = low if value < low else high
    return bound, f"= {value:.6g} lies outside [{low:.6g}, {high:.6g}]"


def _wordy(phrase: str) -> Callable[[Layout, str, Any], tuple[float | None, str]]:
    return lambda _layout, _signal, _value: (None, phrase)


_PHRASES: dict[str, Callable[[Layout, str, Any], tuple[float | None, str]]] = {
    "type": _wordy("is not a number, as it always was in the baseline"),
    "null": _wordy("is missing, as it never was in the baseline"),
    "range": _outside,
    "category": lambda _layout, _signal, level: (None, f"= {quoted(level)} is a level that the baseline never had"),
    "finite": _wordy("is not finite, as it always was in the baseline"),
}

_DISCREET = {"range": "lies outside its bounds", "category": "has a level that the baseline never had"}
"""Phrases without values."""
