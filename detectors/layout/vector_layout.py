"""A baseline and a plan made ready for counting: one flat vector of int64 cells that windows add to and workers merge.

The vector holds four totals, then the cells of every signal, then one count per constraint and signal::

    [n, late, scored, outliers | signal 0: bins, missing, nonfinite | ... | levels, other, unseen, missing | ... | violations]

Numeric signals come first, in the baseline's order, then categorical ones.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from driftline.detectors.arrays import F64, I64, Counts, Mask
from driftline.detectors.documents.baseline import N_FEW, PREDICTION, Baseline, CategoricalSignal, NumericSignal
from driftline.detectors.documents.level_hashes import key_of
from driftline.detectors.documents.outlier_profile import unpacked
from driftline.detectors.layout.constraints import CONSTRAINTS, Constraints
from driftline.detectors.layout.level_cells import rarity, reference_cells
from driftline.detectors.layout.lookup_tables import Segments
from driftline.detectors.layout.signal_groups import Alike, grouped
from driftline.detectors.layout.values import Levels, places_of
from driftline.detectors.online.adwin_streams import STREAMS
from driftline.detectors.online.halfspace import Masses
from driftline.detectors.online.outliers import Ranks, Scale, alerting_score
from driftline.detectors.online.surprise import Joint, is_graded
from driftline.detectors.plan import Plan, Rule

TOTALS = ("n", "late", "scored", "outliers")
N, LATE, SCORED, OUTLIERS = range(len(TOTALS))


class AdwinOf(NamedTuple):
    """What one ADWIN watches, at which significance; the signal's row among the numeric ones.

    ``fed`` is the mean and standard deviation of what the baseline's rows would feed it.
    """

    detector: str
    signal: str
    delta: float
    row: int
    fed: tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """Where each signal's cells lie in the flat vector, and what one record is held against.

    Parameters
    ----------
    baseline, plan
        What this layout was made of.
    numeric, categorical
        Names of the signals, in the order of their cells.
    starts
        First cell of each signal, numeric then categorical, shape (d + 1,); the last is the end of all cells.
    """

    baseline: Baseline
    plan: Plan
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    starts: I64

    @classmethod
    def of(cls, baseline: Baseline, plan: Plan) -> "Layout":
        """Lay out a baseline's signals."""
        kinds = baseline.signals.items()
        numeric = tuple(name for name, signal in kinds if isinstance(signal, NumericSignal))
        categorical = tuple(name for name, signal in kinds if isinstance(signal, CategoricalSignal))
        counts = [len(baseline.signals[name].counts) for name in numeric + categorical]
        cells = [count + (2 if place < len(numeric) else 3) for place, count in enumerate(counts)]
        return cls(baseline, plan, numeric, categorical, len(TOTALS) + np.cumsum([0, *cells]))

    @cached_property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals in the order of their cells."""
        return self.numeric + self.categorical

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features in the baseline's order, by which a logger's positions are named."""
        return tuple(name for name in self.baseline.signals if name != PREDICTION)

    @cached_property
    def size(self) -> int:
        """Length of the flat vector."""
        return int(self.starts[-1]) + len(CONSTRAINTS) * len(self.signals)

    @cached_property
    def _rules(self) -> dict[tuple[str, str], Rule]:
        return {}

    def rule(self, detector: str, signal: str = "") -> Rule:
        """The plan's rule in force for a detector on a signal of this model, put by: a verdict asks for hundreds."""
        key = (detector, signal)
        found = self._rules.get(key)
        if found is None:
            found = self._rules[key] = self.plan.rule(detector, self.baseline.model, signal)
        return found

    def watched(self, detector: str) -> dict[str, float | None]:
        """Signals on which the plan has a detector on, and its threshold there."""
        found = self._watched.get(detector)
        if found is None:
            rules = {name: self.rule(detector, name) for name in self.signals}
            found = self._watched[detector] = {name: rule.threshold for name, rule in rules.items() if rule.enabled}
        return found

    @cached_property
    def _watched(self) -> dict[str, dict[str, float | None]]:
        return {}

    @cached_property
    def adwins(self) -> tuple[AdwinOf, ...]:
        """The ADWINs that the plan has on: those of level before those of spread, signals in the order of their cells."""
        return tuple(
            AdwinOf(name, signal, rule.threshold, row, profile.fed[stream])
            for stream, name in enumerate(STREAMS)
            for row, (signal, profile) in enumerate(zip(self.numeric, self._numeric, strict=True))
            if (rule := self.rule(name, signal)).enabled and rule.threshold and profile.fed
        )

    @cached_property
    def plan_hash(self) -> str:
        """Hash of the plan."""
        return self.plan.hash

    @cached_property
    def tree_rows(self) -> list[int]:
        """Places of the half-space trees' features among the numeric signals."""
        profile = self.baseline.outliers
        return [self.numeric.index(name) for name in profile.features] if profile else []

    @cached_property
    def outlier_scale(self) -> Scale | None:
        """Ranges of the half-space trees' features; None where no feature is numeric."""
        profile = self.baseline.outliers
        return Scale.of(profile) if profile else None

    @cached_property
    def outlier_ranks(self) -> Ranks | None:
        """What ranks as an outlier; None where no feature is numeric."""
        profile = self.baseline.outliers
        return Ranks.of(profile, self.plan.outlier_share) if profile else None

    @cached_property
    def alerting_score(self) -> float:
        """Half-space tree score from which a single record is told; infinite where none is."""
        profile, threshold = self.baseline.outliers, self.rule("half_space_trees").threshold
        found = alerting_score(profile, threshold) if profile and threshold else None
        return np.inf if found is None else found

    @cached_property
    def joint(self) -> Joint | None:
        """What tells records that are far out in two features at once; None where it is off or can't be told."""
        profile, rule = self.baseline.outliers, self.rule("joint_range")
        if profile is None or not rule.enabled or not rule.threshold:
            return None
        return Joint.of(profile, [self._numeric[row] for row in self.joint_rows], rule.threshold)

    @cached_property
    def joint_rows(self) -> I64:
        """Which of the numeric signals are the features whose surprises count."""
        return np.array([row for row in self.tree_rows if is_graded(self._numeric[row])], np.int64)

    @cached_property
    def masses(self) -> Masses | None:
        """Half-space tree masses at the baseline's end; None where no feature is numeric."""
        profile = self.baseline.outliers
        if profile is None:
            return None
        reference = unpacked(profile.leaves)
        return Masses.restored(reference, np.zeros_like(reference), 0, profile.window)

    def zero(self) -> I64:
        """A window that holds nothing: the identity of the merge, which is addition."""
        return np.zeros(self.size, np.int64)

    def cells(self, vector: Counts, signal: str) -> Counts:
        """The cells of one signal: bins, missing, nonfinite; or levels, other, unseen, missing."""
        return vector[self._slices[signal]]

    @cached_property
    def _slices(self) -> dict[str, slice]:
        ends = self.starts.tolist()
        return {name: slice(*ends[place : place + 2]) for place, name in enumerate(self.signals)}

    def violations(self, vector: Counts) -> Counts:
        """Counts of violations, a view of shape (constraints, signals)."""
        return vector[self.starts[-1] :].reshape(len(CONSTRAINTS), len(self.signals))

    @cached_property
    def reference(self) -> I64:
        """The baseline's own rows as such a vector."""
        vector = self.zero()
        vector[N] = self.baseline.n
        for name, numeric in zip(self.numeric, self._numeric, strict=True):
            self.cells(vector, name)[:] = [*numeric.counts, numeric.missing, numeric.nonfinite]
        for name, categorical in zip(self.categorical, self._categorical, strict=True):
            self.cells(vector, name)[:] = reference_cells(categorical, self.baseline.n)
        return vector

    @cached_property
    def alike(self) -> list[Alike]:
        """All signals, those together that a verdict measures together."""
        bins = [self.positions.get(name) for name in self.signals]
        rare = [[0] * (1 + N_FEW)] * len(self.numeric) + [
            rarity(signal, self.baseline.n) for signal in self._categorical
        ]
        return grouped(self.signals, self.starts, self.reference, bins, rare)

    @cached_property
    def segments(self) -> Segments:
        """Search tables of the numeric signals."""
        return Segments.of(self._numeric, self.starts)

    @cached_property
    def positions(self) -> dict[str, F64]:
        """Per numeric signal, a value per bin in units of the baseline's standard deviation: the bin's middle.

        The open tails reach to the baseline's smallest and largest value.
        """
        found = {}
        for name, signal in zip(self.numeric, self._numeric, strict=True):
            least, most = min([signal.tails[0], *signal.edges]), max([signal.tails[-1], *signal.edges])
            ends = np.array([least, *signal.edges, most])
            found[name] = (ends[:-1] + ends[1:]) / 2 / (signal.sd or 1.0)
        return found

    @cached_property
    def missing_cell(self) -> I64:
        """Cell of missing values, per signal."""
        ends = self.starts[1:]
        return ends - np.array([2] * len(self.numeric) + [1] * len(self.categorical), np.int64)

    @cached_property
    def constraints(self) -> Constraints:
        """What single values are held against."""
        return Constraints(self.baseline, self.plan, self.numeric, self.signals)

    @cached_property
    def levels(self) -> list[Levels]:
        """Per categorical signal, a place for each level, for other known ones, unseen ones and a missing value."""
        return [
            places_of(
                tuple(signal.levels),
                signal.further,
                signal.markers,
                boolean=signal.boolean,
                key=key_of(self.baseline.model, name) if signal.sensitive else "",
            )
            for name, signal in zip(self.categorical, self._categorical, strict=True)
        ]

    @cached_property
    def sensitive(self) -> frozenset[str]:
        """Signals whose values nothing may show, by the baseline or the plan."""
        declared = {name for name, signal in self.baseline.signals.items() if signal.sensitive}
        return self.plan.sensitive(self.baseline.model) | declared

    @cached_property
    def markers(self) -> tuple[tuple[str, ...], ...]:
        """Per numeric signal, the texts that stand for a missing value."""
        return tuple(self.baseline.signals[name].markers for name in self.numeric)

    @cached_property
    def typed(self) -> Mask:
        """Signals whose values of the wrong type are counted: those for which the plan has the constraint on."""
        return np.array([bool(self.rule("type", name).enabled) for name in self.signals], np.bool_)

    @cached_property
    def text(self) -> dict[str, tuple[int, int]]:
        """Of typed numeric signals, how many numbers were text in the baseline, and where the vector counts such."""
        first, is_typed = int(self.starts[-1]) + CONSTRAINTS.index("type") * len(self.signals), self.typed.tolist()
        signals = [(row, name, self.baseline.signals[name]) for row, name in enumerate(self.numeric) if is_typed[row]]
        return {name: (each.text, first + row) for row, name, each in signals if isinstance(each, NumericSignal)}

    @cached_property
    def _numeric(self) -> list[NumericSignal]:
        return [each for each in self.baseline.signals.values() if isinstance(each, NumericSignal)]

    @property
    def _categorical(self) -> list[CategoricalSignal]:
        return [each for each in self.baseline.signals.values() if isinstance(each, CategoricalSignal)]
