"""Windows' merged counts held against their baselines: every signal's tests and distances, many signals at once.

Most of what one signal costs is the overhead of calls on a few dozen numbers, so signals of one kind with equally many
cells, of whatever windows and models, are measured as rows of one table. A row's result depends on that row alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from driftline.detectors.arrays import F64, I64
from driftline.detectors.documents.alerts import Window
from driftline.detectors.documents.duplicates import Duplicates, thinned
from driftline.detectors.documents.new_levels import NewLevels
from driftline.detectors.documents.partials import ChangePoint
from driftline.detectors.layout.signal_groups import Alike
from driftline.detectors.layout.vector_layout import Layout, N
from driftline.detectors.statistics.distances import DISTANCES, distances
from driftline.detectors.statistics.marginal import Marginal, categorical_tests, numeric_tests

Distances = dict[str, float | None]
"""Distance by name; None where the kind of signal has none."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All partitions' counts of one window, merged.

    Parameters
    ----------
    layout
        What it was counted by.
    window
        Which.
    vector
        Sum of the partitions' flat vectors.
    changes
        All change points, by partition and offset.
    new_levels
        Per signal, how often each of the first new levels came.
    duplicates
        How often records repeat one another.
    """

    layout: Layout
    window: Window
    vector: I64
    changes: Sequence[ChangePoint]
    new_levels: NewLevels = field(default_factory=dict)
    duplicates: Duplicates = field(default_factory=Duplicates)

    @property
    def n(self) -> int:
        """Records in the window."""
        return int(self.vector[N])

    @property
    def design_effect(self) -> float:
        """Variance of the counts over that of as many different records."""
        return self.duplicates.design_effect(self.n)

    @property
    def is_enough(self) -> bool:
        """Whether these are enough records to judge by."""
        return self.n >= self.layout.plan.rows_needed(self.layout.baseline.model)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in one window, by signal.

    Parameters
    ----------
    tests
        Marginal tests, of signals that the plan has it on for; none where the records are too few.
    scores
        Distances that the plan has on; none without records.
    """

    tests: dict[str, Marginal] = field(default_factory=dict)
    scores: dict[str, Distances] = field(default_factory=dict)


def measure(evidence: Sequence[Evidence]) -> list[Measured]:
    """Measure windows; what is found in one does not depend on which others it is measured with."""
    found = [Measured() for _ in evidence]
    for table in _tables(evidence):
        _add_tests(table, found)
        _add_scores(table, found)
    return found


@dataclass(frozen=True, slots=True)
class _Table:
    """Signals of one kind with equally many cells, a row each: whose they are, and their cells on both sides."""

    is_numeric: bool
    rows: list[tuple[int, str]]  # place of the window, name of the signal
    evidence: Sequence[Evidence]
    reference: I64
    current: I64
    positions: F64
    rare: I64

    @classmethod
    def of(cls, members: Sequence[tuple[int, Alike]], evidence: Sequence[Evidence]) -> "_Table":
        """Put signals under one another, given the places of their windows."""
        return cls(
            members[0][1].is_numeric,
            [(place, name) for place, alike in members for name in alike.names],
            evidence,
            np.concatenate([alike.reference for _, alike in members]),
            np.concatenate([evidence[place].vector[alike.cells] for place, alike in members]),
            np.concatenate([alike.positions for _, alike in members]),
            np.concatenate([alike.rare for _, alike in members]),
        )


def _tables(evidence: Sequence[Evidence]) -> list[_Table]:
    groups: dict[tuple[bool, int], list[tuple[int, Alike]]] = {}
    for place, each in enumerate(evidence):
        for alike in each.layout.alike:
            groups.setdefault((alike.is_numeric, alike.cells.shape[1]), []).append((place, alike))
    return [_Table.of(members, evidence) for members in groups.values()]


def _add_tests(table: _Table, found: list[Measured]) -> None:
    is_on = [each.layout.watched("marginal") if each.is_enough else () for each in table.evidence]
    chosen = [row for row, (place, name) in enumerate(table.rows) if name in is_on[place]]
    effects = np.array([each.design_effect for each in table.evidence])
    members = [table.rows[row] for row in chosen]
    of_rows = effects[[place for place, _ in members]]
    reference, current = table.reference[chosen], thinned(table.current[chosen], of_rows)
    tests = (
        numeric_tests(reference, current, _text(members, table.evidence, of_rows))
        if table.is_numeric
        else categorical_tests(reference, current, table.rare[chosen])
    )
    for row, test in zip(chosen, tests, strict=True):
        place, name = table.rows[row]
        found[place].tests[name] = _kept(table.evidence[place].layout, name, test)


def _text(members: Sequence[tuple[int, str]], evidence: Sequence[Evidence], effects: F64) -> I64:
    """Rows of the wrong type in baseline and window, of signals given by their windows' places and their names."""
    found = np.zeros((len(members), 2), np.int64)
    for row, (place, name) in enumerate(members):
        if name in evidence[place].layout.text:
            in_baseline, cell = evidence[place].layout.text[name]
            found[row] = in_baseline, evidence[place].vector[cell]
    found[:, 1:] = thinned(found[:, 1:], effects)
    return found


def _kept(layout: Layout, name: str, test: Marginal) -> Marginal:
    """A test without the parts that the plan has off."""
    off = [part for part in ("missing", "unseen") if part in test.tests and name not in layout.watched(part)]
    return test.without(off) if off else test


def _add_scores(table: _Table, found: list[Measured]) -> None:
    """Add ordered distances over bins of finite values, the others over all cells."""
    for place, name in table.rows:
        if table.evidence[place].n:
            found[place].scores[name] = {}
    for distance, (_, ordered) in DISTANCES.items():
        is_on = [each.layout.watched(distance) if each.n else () for each in table.evidence]
        chosen = [row for row, (place, name) in enumerate(table.rows) if name in is_on[place]]
        values: Sequence[float | None] = [None] * len(chosen)
        if table.is_numeric or not ordered:
            cells = slice(-2) if ordered else slice(None)
            reference, current = table.reference[chosen, cells], table.current[chosen, cells]
            values = distances(distance, reference, current, table.positions[chosen]).tolist()
        for row, value in zip(chosen, values, strict=True):
            place, name = table.rows[row]
            found[place].scores[name][distance] = value
