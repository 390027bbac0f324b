"""One window's merged counts against its baseline: what moved, by how much, and whether it can be chance."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np

from driftline.detectors.arrays import I64
from driftline.detectors.documents.alerts import Window, digest
from driftline.detectors.documents.duplicates import thinned
from driftline.detectors.documents.new_levels import ranked
from driftline.detectors.documents.partials import ChangePoint
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.layout.vector_layout import LATE, OUTLIERS, SCORED, Layout
from driftline.detectors.statistics.distances import DISTANCES
from driftline.detectors.statistics.marginal import Marginal
from driftline.detectors.statistics.multiplicity import benjamini_hochberg, bonferroni
from driftline.detectors.statistics.rates import two_proportion_p_value
from driftline.detectors.verdicts.evaluate import Distances, Evidence, Measured, measure

FORMAT = "driftline.window/1"
QUALITY_CAUSES = ("missing", "nonfinite", "unseen", "type")
"""Component tests that tell of values which are no values: a matter of data quality."""
BEYOND_DOUBT = 1e-15
"""Smaller p-values are ranked no further."""
Status = Literal["drift", "stable", "insufficient"]


class SignalVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One signal in one window.

    Parameters
    ----------
    counts, missing, nonfinite, other, unseen
        Records per bin or level; records without a value; with a value that is no finite number; with a level that the
        baseline had and keeps no cell for; with a level that the baseline never had.
    new_levels
        Some of the latter levels, cut to 64 characters, and how often each came, the most frequent first.
    p_value
        Of the calibrated marginal test; null where it is off or the window is insufficient.
    adjusted
        The p-value times the number of signals that were tested, at most 1: what the plan's threshold is held against.
    cause
        Which of its component tests is the most striking.
    drift
        Whether this signal moved; null where that can't be said.
    detector
        What made it an alarm: ``marginal``, or the distance that exceeds its threshold. Empty where nothing did; a
        signal that moved is then merely listed, beside one that alarms.
    scores
        Distances to the baseline; ks and wasserstein are null for categories.
    """

    counts: list[int]
    missing: int
    nonfinite: int
    other: int
    unseen: int
    new_levels: list[tuple[str, int]] = []
    p_value: float | None = None
    adjusted: float | None = None
    cause: str = ""
    drift: bool | None = None
    detector: str = ""
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
    late_share
        late / (n + late); 0 without records.
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
    repeated
        Share of records that repeat the id and the values of another one, by a sample.
    design_effect
        By how much such repetitions make the counts' variance larger; the tests allow for it.
    """

    format: Literal["driftline.window/1"] = msgspec.field(default="driftline.window/1")
    id: str
    model: str
    version: str
    segment: dict[str, str] = {}
    window: Window
    n: int
    late: int
    late_share: float
    final: bool
    baseline: str
    plan: str
    status: Status
    drift: bool | None
    signals: dict[str, SignalVerdict]
    change_points: list[ChangePoint] = []
    outliers: OutlierVerdict = OutlierVerdict()
    violations: dict[str, dict[str, int]] = {}
    repeated: float = 0.0
    design_effect: float = 1.0


def judge_windows(evidence: Sequence[Evidence], *, final: bool) -> list[Verdict]:
    """Compare windows with their baselines; a verdict does not depend on which others it is reached with."""
    return [_judged(each, found, final=final) for each, found in zip(evidence, measure(evidence), strict=True)]


def _judged(evidence: Evidence, measured: Measured, *, final: bool) -> Verdict:
    """Compare a window with its baseline.

    The window drifts if d times the smallest p-value of its d tested signals is at most the threshold (Bonferroni), if
    a distance exceeds a threshold that the plan gives it, or if its rate of outliers is too high. Which signals moved
    is Benjamini and Hochberg's list, and it is drawn up only where a p-value alarms.
    """
    layout, vector, window = evidence.layout, evidence.vector, evidence.window
    baseline = layout.baseline
    signals = _signals(evidence, measured)
    if evidence.is_enough:
        signals = _decided(layout, signals, measured.tests)
    rate = _outlier_rate(evidence) if evidence.is_enough else _counted(layout, vector)
    alarms = any(signal.detector for signal in signals.values())
    drift = bool(alarms or rate.drift) if evidence.is_enough else None
    late = int(vector[LATE])
    return Verdict(
        id=digest(baseline.model, baseline.version, window.start_ms, baseline.hash, layout.plan_hash),
        model=baseline.model,
        version=baseline.version,
        window=window,
        n=evidence.n,
        late=late,
        late_share=round(late / max(1, evidence.n + late), 6),
        final=final,
        baseline=baseline.hash,
        plan=layout.plan_hash,
        status="insufficient" if drift is None else "drift" if drift else "stable",
        drift=drift,
        signals=signals,
        change_points=list(evidence.changes),
        outliers=rate,
        violations=_violations(layout, vector),
        repeated=round(evidence.duplicates.repeated(evidence.n), 6),
        design_effect=round(evidence.design_effect, 6),
    )


def _decided(
    layout: Layout, signals: Mapping[str, SignalVerdict], tests: Mapping[str, Marginal]
) -> dict[str, SignalVerdict]:
    """Signals with what is decided about them: whether each alarms, by which detector, and whether it moved."""
    adjusted = _adjusted(tests)
    thresholds = layout.watched("marginal")
    striking = {name for name, p_value in adjusted.items() if p_value <= (thresholds[name] or 0.0)}
    far = _far(layout, signals)
    listed = _listed(layout, tests) if striking else set()
    return {
        name: msgspec.structs.replace(
            signal,
            adjusted=adjusted.get(name),
            detector="marginal" if name in striking else far.get(name, ""),
            drift=name in striking | listed | far.keys() if name in tests or name in far else None,
        )
        for name, signal in signals.items()
    }


def _adjusted(tests: Mapping[str, Marginal]) -> dict[str, float]:
    """Adjust p-values for the number of signals of which any test could reject; those of the others are 1."""
    tested = {name: test.p_value for name, test in tests.items() if test.tested}
    found = bonferroni(np.array(list(tested.values()))).tolist()
    return dict.fromkeys(tests, 1.0) | dict(zip(tested, found, strict=True))


def _listed(layout: Layout, tests: Mapping[str, Marginal]) -> set[str]:
    """Signals that Benjamini and Hochberg's procedure lists."""
    tested = {name: test.p_value for name, test in tests.items() if test.tested}
    listed = benjamini_hochberg(np.array(list(tested.values())), layout.plan.list_false_discovery)
    return {name for name, is_listed in zip(tested, listed, strict=True) if is_listed}


def _far(layout: Layout, signals: Mapping[str, SignalVerdict]) -> dict[str, str]:
    """Signals of which a distance, as it is told, exceeds a threshold that the plan gives it; the first such distance."""
    found: dict[str, str] = {}
    for distance in DISTANCES:
        for name, threshold in layout.watched(distance).items():
            value = signals[name].scores.get(distance)
            if threshold is not None and value is not None and value > threshold:
                found.setdefault(name, distance)
    return found


def _counted(layout: Layout, vector: I64) -> OutlierVerdict:
    """Outliers of a window that is not judged."""
    profile, ranks = layout.baseline.outliers, layout.outlier_ranks
    share = ranks.flagged / profile.scored if profile and ranks else 0.0
    return OutlierVerdict(scored=int(vector[SCORED]), outliers=int(vector[OUTLIERS]), expected_share=round(share, 6))


def _outlier_rate(evidence: Evidence) -> OutlierVerdict:
    """Test whether outliers are more frequent than in the baseline, allowing for their clumping and for repetitions."""
    layout = evidence.layout
    counted, profile, ranks = _counted(layout, evidence.vector), layout.baseline.outliers, layout.outlier_ranks
    if profile is None or ranks is None or not counted.scored or not layout.rule("outlier_rate").enabled:
        return counted
    both = np.array([[counted.outliers, counted.scored - counted.outliers]])
    [[n_outliers, n_others]] = thinned(both, np.array([evidence.design_effect])).tolist()
    n_scored = n_outliers + n_others
    p_value = two_proportion_p_value(n_outliers, n_scored, ranks.flagged, profile.scored, profile.dispersion)
    threshold = layout.rule("outlier_rate").threshold or 0.0
    return msgspec.structs.replace(counted, p_value=p_value, drift=p_value <= threshold)


def _signals(evidence: Evidence, measured: Measured) -> dict[str, SignalVerdict]:
    """What is counted and measured per signal; nothing is decided yet."""
    layout = evidence.layout
    counts, starts = evidence.vector.tolist(), layout.starts.tolist()
    found = {}
    for name, (start, stop) in zip(layout.signals, pairwise(starts), strict=True):
        is_numeric, test = name in layout.positions, measured.tests.get(name)
        n_special = 2 if is_numeric else 3
        special = counts[stop - n_special : stop]
        missing, nonfinite, other, unseen = (*special, 0, 0) if is_numeric else (special[2], 0, *special[:2])
        found[name] = SignalVerdict(
            counts=counts[start : stop - n_special],
            missing=missing,
            nonfinite=nonfinite,
            other=other,
            unseen=unseen,
            new_levels=[] if name in layout.sensitive else ranked(evidence.new_levels.get(name, {})),
            p_value=None if test is None else test.p_value,
            cause="" if test is None else _cause(test),
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
