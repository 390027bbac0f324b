"""Per-record constraints: which hold for which signal, and from which occurrence on one is told.

What the baseline never did in m rows it may yet do once in m / 3: a single occurrence proves nothing. So occurrences are
counted per window and partition, and the k-th among i records is told once its chance is small enough whatever the true
rate is: if all m + i rows are alike, k given rows all lie among the last i with a chance of at most (i / (m + i)) ** k.
Per record that chance is an upper bound of the rate of false alerts, and the plan says how many a million there may be.

A value beyond ``least`` and ``most`` is told at once: how seldom such values are is known from the baseline's tails.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from driftline.detectors.arrays import F64, I64, Mask
from driftline.detectors.documents.baseline import Baseline, CategoricalSignal, NumericSignal, Signal
from driftline.detectors.plan import Plan, Rule

CONSTRAINTS = ("type", "null", "range", "category", "finite")
"""Per-record constraints, in the order of their counts."""


@dataclass(frozen=True)
class Constraints:
    """The constraints of a baseline's signals under a plan.

    Parameters
    ----------
    baseline, plan
        What they are of.
    numeric, signals
        Names of the numeric signals, and of all, in the order of their cells.
    """

    baseline: Baseline
    plan: Plan
    numeric: tuple[str, ...]
    signals: tuple[str, ...]

    def _rule(self, constraint: str, signal: str) -> Rule:
        return self.plan.rule(constraint, self.baseline.model, signal)

    @cached_property
    def armed(self) -> dict[str, Mask]:
        """Per constraint, which signals it holds for: only what the baseline never did is worth an event."""
        return {
            constraint: np.array(
                [
                    _never(constraint, self.baseline.signals[name]) and bool(self._rule(constraint, name).enabled)
                    for name in self.signals
                ],
                np.bool_,
            )
            for constraint in CONSTRAINTS
        }

    @cached_property
    def bounds(self) -> tuple[F64, F64]:
        """Bounds of each numeric signal, the plan's before the baseline's; infinite where the check is off."""
        return self._bounds("low", "low"), self._bounds("high", "high")

    @cached_property
    def certain(self) -> tuple[F64, F64]:
        """Bounds beyond which a single value is told: the plan's, or where the baseline's tails end for good."""
        return self._bounds("low", "least"), self._bounds("high", "most")

    def _bounds(self, side: str, field: str) -> F64:
        found = np.full(len(self.numeric), -np.inf if side == "low" else np.inf)
        for place, name in enumerate(self.numeric):
            rule = self._rule("range", name)
            own, given = getattr(self.baseline.signals[name], field), getattr(rule, side)
            if rule.enabled and (own is not None or given is not None):
                found[place] = own if given is None else given
        return found

    @cached_property
    def rows(self) -> F64:
        """Baseline rows that might have broken each constraint and did not, shape (constraints, signals)."""
        signals = [self.baseline.signals[name] for name in self.signals]
        present = [self.baseline.n - each.missing for each in signals]
        finite = [
            n - each.nonfinite if isinstance(each, NumericSignal) else n
            for n, each in zip(present, signals, strict=True)
        ]
        every = [self.baseline.n] * len(signals)
        return np.array([present, every, finite, present, present], np.float64)

    @cached_property
    def needed(self) -> F64:
        """Logarithm of 1 over the chance that is small enough, per constraint, shared by the signals it holds for."""
        n_armed = np.array([max(1, int(self.armed[constraint].sum())) for constraint in CONSTRAINTS])
        found: F64 = np.log(n_armed / (self.plan.events_per_million * 1e-6))
        return found

    def are_beyond_chance(self, constraints: I64, signals: I64, counts: I64, positions: I64) -> Mask:
        """Which occurrences are too many for chance.

        Parameters
        ----------
        constraints, signals
            Of each occurrence, shape (hits,).
        counts, positions
            How many there were in the window until then, and how many records, both with this one.
        """
        steps = np.log1p(self.rows[constraints, signals] / positions)
        found: Mask = counts * steps >= self.needed[constraints]
        return found


def _never(constraint: str, signal: Signal) -> bool:
    """Whether the baseline never broke a constraint that this kind of signal can break."""
    match constraint:
        case "type":  # such values are counted all the same: see ``Layout.typed``
            return not (isinstance(signal, NumericSignal) and signal.text)
        case "null":
            return signal.missing == 0
        case "range":
            return isinstance(signal, NumericSignal)
        case "finite":
            return isinstance(signal, NumericSignal) and signal.nonfinite == 0
        case "category":
            return isinstance(signal, CategoricalSignal) and signal.closed
    return True


def occurrences_needed(rows: int, records: int, needed: float) -> int:
    """How many occurrences among the first records of a window are told, where the baseline had none in its rows.

    Examples
    --------
    Among 1000 records after 9000 rows, each has a chance of a tenth: six are one in a million.

    >>> occurrences_needed(9_000, 1_000, float(np.log(0.999e6)))
    6
    """
    return int(np.ceil(needed / np.log1p(rows / records)))
