"""One window's merged counts against its baseline: what moved, by how much, and whether it can be chance."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np

from driftline.detectors.alerts import Window, digest
from driftline.detectors.arrays import I64
from driftline.detectors.constraints import CONSTRAINTS
from driftline.detectors.distances import DISTANCES
from driftline.detectors.layout import LATE, OUTLIERS, SCORED, Layout
from driftline.detectors.marginal import Marginal
from driftline.detectors.measuring import Distances, Evidence, Measured, measure
from driftline.detectors.multiplicity import benjamini_hochberg, bonferroni
from driftline.detectors.partials import ChangePoint
from driftline.detectors.rates import two_proportion_p_value

FORMAT = "driftline.window/1"
QUALITY_CAUSES = ("missing", "nonfinite", "unseen")
"""Component tests that tell of values which are no values: a matter of data quality."""
BEYOND_DOUBT = 1e-15
"""Smaller p-values are ranked no further."""
Status = Literal["drift", "stable", "insufficient"]


class SignalVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One signal in one window.

    Parameters
    ----------
    counts, missing, nonfinite, unseen
        Records per bin or level; records without a value; with a value that is no finite number; with a level that is
        not in the baseline.
    p_value
        Of the calibrated marginal test; null where it is off or the window is insufficient.
    cause
        Which of its component tests is the most striking.
    drift
        Whether this signal moved; null where that can't be said.
    scores
        Distances to the baseline; ks and wasserstein are null for categories.
    """

    counts: list[int]
    missing: int
    nonfinite: int
    unseen: int
    p_value: float | None = None
    cause: str = ""
    drift: bool | None = None
    scores: dict[str, float | None]


class OutlierVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The window's rate of outliers, and its test.

    Parameters
    ----------
    scored, outliers
        Records that the half-space trees scored; those of them that rank as outliers.
    expected_share
        Share of outliers among the baseline's records.
    p_value, drift
        Of the test against that share; whether it alarms. Null where nothing was tested.
    """

    scored: int = 0
    outliers: int = 0
    expected_share: float = 0.0
    p_value: float | None = None
    drift: bool | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Verdict on one window, the document on topic ``windows``; its Kafka key is ``model|version``.

    Parameters
    ----------
    format
        Of this document.
    id
        Deterministic; a provisional verdict and the final one share it.
    model, version, segment, window
        What was judged.
    n, late
        Records in the window; records that came too late while it was the newest.
    final
        False while idle partitions may still add to it.
    baseline, plan
        Hashes of what it was judged by.
    status, drift
        ``insufficient`` (drift is null: too few records to say), ``stable`` or ``drift``.
    signals
        What is counted and tested per signal.
    change_points
        Changes that the online detectors declared in this window, by partition and offset.
    outliers
        The rate of outliers among whole records.
    violations
        Per signal, constraint to number of values that broke it.
    """

    format: Literal["driftline.window/1"] = msgspec.field(default="driftline.window/1")
    id: str
    model: str
    version: str
    segment: dict[str, str] = {}
    window: Window
    n: int
    late: int
    final: bool
    baseline: str
    plan: str
    status: Status
    drift: bool | None
    signals: dict[str, SignalVerdict]
    change_points: list[ChangePoint] = []
    outliers: OutlierVerdict = OutlierVerdict()
    violations: dict[str, dict[str, int]] = {}


def judge_windows(evidence: Sequence[Evidence], *, final: bool) -> list[Verdict]:
    """Compare windows with their baselines; a verdict does not depend on which others it is reached with."""
    return [_judged(each, found, final=final) for each, found in zip(evidence, measure(evidence), strict=True)]


def _judged(evidence: Evidence, measured: Measured, *, final: bool) -> Verdict:
    """Compare a window with its baseline.

    The window drifts if d times the smallest p-value of its d signals is at most the threshold (Bonferroni), if a
    distance exceeds a threshold that the plan gives it, or if its rate of outliers is too high. Which signals moved is
    Benjamini and Hochberg's list, and it is drawn up only then.
    """
    layout, vector, window = evidence.layout, evidence.vector, evidence.window
    baseline = layout.baseline
    moved = _moved(layout, measured.tests)
    if evidence.is_enough:
        moved |= _far(layout, measured.scores)
    rate = _outlier_rate(layout, vector) if evidence.is_enough else _counted(layout, vector)
    drift = bool(moved or rate.drift) if evidence.is_enough else None
    return Verdict(
        id=digest(baseline.model, baseline.version, window.start_ms, baseline.hash, layout.plan_hash),
        model=baseline.model,
        version=baseline.version,
        window=window,
        n=evidence.n,
        late=int(vector[LATE]),
        final=final,
        baseline=baseline.hash,
        plan=layout.plan_hash,
        status="insufficient" if drift is None else "drift" if drift else "stable",
        drift=drift,
        signals=_signals(layout, vector, measured, moved),
        change_points=list(evidence.changes),
        outliers=rate,
        violations=_violations(layout, vector),
    )


def _moved(layout: Layout, tests: Mapping[str, Marginal]) -> set[str]:
    """Signals that moved: none unless the window alarms by Bonferroni, then Benjamini and Hochberg's list."""
    if not tests:
        return set()
    p_values = np.array([test.p_value for test in tests.values()])
    thresholds = layout.watched("marginal")
    alarms = bonferroni(p_values, np.array([thresholds[name] or 0.0 for name in tests]))
    if not alarms.any():
        return set()
    listed = benjamini_hochberg(p_values, layout.plan.list_false_discovery) | alarms
    return {name for name, is_listed in zip(tests, listed, strict=True) if is_listed}


def _far(layout: Layout, scores: Mapping[str, Distances]) -> set[str]:
    """Signals of which a distance exceeds a threshold that the plan gives it."""
    return {
        name
        for distance in DISTANCES
        for name, threshold in layout.watched(distance).items()
        if threshold is not None and (value := scores.get(name, {}).get(distance)) is not None and value > threshold
    }


def _counted(layout: Layout, vector: I64) -> OutlierVerdict:
    """Outliers of a window that is not judged."""
    profile, ranks = layout.baseline.outliers, layout.outlier_ranks
    share = ranks.flagged / profile.scored if profile and ranks else 0.0
    return OutlierVerdict(scored=int(vector[SCORED]), outliers=int(vector[OUTLIERS]), expected_share=round(share, 6))


def _outlier_rate(layout: Layout, vector: I64) -> OutlierVerdict:
    """Test whether outliers are more frequent than in the baseline, allowing for their clumping."""
    counted, profile, ranks = _counted(layout, vector), layout.baseline.outliers, layout.outlier_ranks
    if profile is None or ranks is None or not counted.scored or not layout.rule("outlier_rate").enabled:
        return counted
    p_value = two_proportion_p_value(
        counted.outliers, counted.scored, ranks.flagged, profile.scored, profile.dispersion
    )
    threshold = layout.rule("outlier_rate").threshold or 0.0
    return msgspec.structs.replace(counted, p_value=p_value, drift=p_value <= threshold)


def _signals(layout: Layout, vector: I64, measured: Measured, moved: set[str]) -> dict[str, SignalVerdict]:
    counts, starts = vector.tolist(), layout.starts.tolist()
    found = {}
    for name, (start, stop) in zip(layout.signals, pairwise(starts), strict=True):
        *cells, missing, other = counts[start:stop]
        is_numeric = name in layout.positions
        test = measured.tests.get(name)
        found[name] = SignalVerdict(
            counts=cells,
            missing=missing if is_numeric else other,
            nonfinite=other if is_numeric else 0,
            unseen=0 if is_numeric else missing,
            p_value=None if test is None else test.p_value,
            cause="" if test is None else _cause(test),
            drift=None if test is None and name not in moved else name in moved,
            scores=_rounded(measured.scores.get(name, {})),
        )
    return found


def _rounded(scores: Distances) -> Distances:
    return {distance: None if value is None else round(value, 6) for distance, value in scores.items()}


def _cause(test: Marginal) -> str:
    """The most striking component, but values that are no values before all others once they are beyond doubt.

    A new level changes a distribution's shape as well, and then it is the level that explains it.
    """
    p_values = test.tests
    beyond_doubt = [part for part in QUALITY_CAUSES if p_values.get(part, 1.0) <= BEYOND_DOUBT]
    return beyond_doubt[0] if beyond_doubt else min(p_values, key=lambda part: p_values[part])


def _violations(layout: Layout, vector: I64) -> dict[str, dict[str, int]]:
    table = layout.violations(vector)
    found: dict[str, dict[str, int]] = {}
    for place, row in zip(*table.T.nonzero(), strict=True):
        found.setdefault(layout.signals[place], {})[CONSTRAINTS[row]] = int(table[row, place])
    return found
