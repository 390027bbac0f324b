"""Single records that break what the baseline never broke: at most a few alerts per window, the rest counted."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from driftline.detectors.alerts import Alert, Kind, Origin, Severity, Window, subject
from driftline.detectors.arrays import I64, Mask
from driftline.detectors.columns import Columns
from driftline.detectors.layout import CONSTRAINTS, Layout


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
    low, high = layout.bounds
    all_finite, all_known = bool(seen.finite.all()), bool((seen.cells[k:] < missing[k:] - 1).all())
    with np.errstate(invalid="ignore"):  # NaN compares as inside
        outside = (seen.numeric < low[:, None]) | (seen.numeric > high[:, None])
    found = [*_places(outside & seen.finite, layout.armed["range"], "range", 0)]
    if not (all_finite and all_known):
        found += _places((seen.cells == missing) & ~seen.mistyped, layout.armed["null"], "null", 0)
        found += _places(seen.cells[k:] == missing[k:] - 1, layout.armed["category"], "category", k)
    if not all_finite:
        found += _places(np.isinf(seen.numeric) & ~seen.mistyped[:k], layout.armed["finite"], "finite", 0)
    if seen.mistyped.any():
        found += _places(seen.mistyped, layout.typed, "type", 0)
    if not found:
        return NONE
    table = np.concatenate(found, axis=1)
    return Violations(*table[:, np.lexsort((table[2], table[1], table[0]))])


def armed(broken: Violations, layout: Layout) -> Violations:
    """Those that are worth an event: numbers as text are none where the baseline has some, however they are counted."""
    table = np.array([layout.armed[constraint] for constraint in CONSTRAINTS])
    kept = table[broken.constraints, broken.signals]
    return broken if kept.all() else Violations(*(part[kept] for part in broken))


def _places(broken: Mask, held: Mask, constraint: str, first: int) -> Iterator[I64]:
    """Rows, constraint and signals at which a mask of shape (signals from ``first`` on, n) holds, shape (3, hits)."""
    if broken.any():
        signals, rows = (broken & held[first : first + len(broken), None]).nonzero()
        yield np.array([rows, np.full_like(rows, CONSTRAINTS.index(constraint)), signals + first])


class Record(NamedTuple):
    """The record that an event is about."""

    origin: Origin
    window: Window
    event_ms: int


def constraint_event(record: Record, layout: Layout, constraint: str, signal: str, value: float) -> Alert:
    """Alert for one value that breaks a constraint; ``value`` is infinite where there is no finite number to tell."""
    told = float(value) if np.isfinite(value) else None
    bound, phrase = _PHRASES[constraint](layout, signal, value)
    return _event(record, layout, "data_quality", "warning", signal, constraint, told, bound, phrase)


def outlier_event(record: Record, layout: Layout, p_value: float) -> Alert:
    """Alert for one record that is unlike the baseline's as a whole."""
    threshold = layout.rule("half_space_trees").threshold
    phrase = f"is unlike any of the baseline's {layout.baseline.n} records taken together (p = {p_value:.1g})"
    return _event(record, layout, "outlier", "warning", "", "half_space_trees", float(p_value), threshold, phrase)


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
        p_value=value if detector == "half_space_trees" else None,
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
    low, high = (float(each[place]) for each in layout.bounds)
    bound = low if value < low else high
    return bound, f"= {value:.6g} lies outside [{low:.6g}, {high:.6g}]"


def _wordy(phrase: str) -> Callable[[Layout, str, float], tuple[float | None, str]]:
    return lambda _layout, _signal, _value: (None, phrase)


_PHRASES: dict[str, Callable[[Layout, str, float], tuple[float | None, str]]] = {
    "type": _wordy("is not a number, as it always was in the baseline"),
    "null": _wordy("is missing, as it never was in the baseline"),
    "range": _outside,
    "category": _wordy("has a level that the baseline never had"),
    "finite": _wordy("is not finite, as it always was in the baseline"),
}
