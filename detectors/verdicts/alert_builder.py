"""From a verdict to alerts that a person can act on."""

from collections.abc import Callable
from itertools import groupby, pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from driftline.detectors.documents.alerts import Alert, BinShift, Kind, Severity, State, Window, subject
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.documents.new_levels import told
from driftline.detectors.documents.partials import ChangePoint
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.statistics.distances import DISTANCES
from driftline.detectors.verdicts.decide import QUALITY_CAUSES, SignalVerdict, Verdict
from driftline.detectors.verdicts.policy import Transition

Subject = tuple[str, str]
"""Kind and signal: what one open alert is about. The signal is empty for the window as a whole."""
LATENESS: Subject = ("data_quality", "")
"""A window's late records, whatever their values."""

N_EVIDENCE = 3


class Finding(NamedTuple):
    """What was found about a subject in one window.

    ``alarms`` tells whether it is enough to open an alert. A signal that Benjamini and Hochberg merely list keeps an
    open alert open and opens none: beside a lasting drift their list holds a false one in every few windows.
    """

    detector: str
    value: float | None
    threshold: float | None
    p_value: float | None
    phrase: str
    evidence: list[BinShift]
    alarms: bool = True


def subjects(layout: Layout, verdict: Verdict) -> dict[Subject, Finding]:
    """Everything in a window that drifts."""
    found: dict[Subject, Finding] = {}
    for name, signal in verdict.signals.items():
        if signal.drift:
            finding = _signal_finding(layout, verdict, name)
            found["data_quality" if finding.detector in QUALITY_CAUSES else "drift", name] = finding
    rate = verdict.outliers
    if rate.drift:
        share = rate.outliers / rate.scored
        phrase = (
            f"{share:.1%} of its records are outliers as a whole, against {rate.expected_share:.1%} in the baseline"
        )
        threshold = layout.rule("outlier_rate").threshold
        found["outlier", ""] = Finding("outlier_rate", rate.p_value, threshold, rate.p_value, phrase, [])
    lateness = _lateness(layout, verdict)
    if lateness is not None:
        found[LATENESS] = lateness
    return found


def judged(layout: Layout, verdict: Verdict) -> Callable[[Subject], bool]:
    """Whether a window says anything about a subject: of its late records it may where the others are too few."""
    is_enough = verdict.n + verdict.late >= layout.plan.rows_needed(verdict.model)
    return lambda about: is_enough if about == LATENESS else verdict.drift is not None


def _lateness(layout: Layout, verdict: Verdict) -> Finding | None:
    """What is to be said of late records, if there are too many of them."""
    rule = layout.rule("late_share")
    if not rule.enabled or rule.threshold is None or verdict.late_share <= rule.threshold:
        return None
    phrase = (
        f"{verdict.late_share:.0%} of its records ({verdict.late} of {verdict.n + verdict.late}) came after their windows "
        "had closed, and are counted nowhere else: check the services' clocks and the order of what is published "
        "(`driftline publish FILE --sort`), or raise plan.lateness_ms"
    )
    return Finding("late_share", verdict.late_share, rule.threshold, None, phrase, [])


def _signal_finding(layout: Layout, verdict: Verdict, name: str) -> Finding:
    signal = verdict.signals[name]
    evidence = bin_shifts(layout, name, signal)
    moved = "; ".join(f"{each.bin}: {each.baseline_share:.1%} -> {each.window_share:.1%}" for each in evidence)
    if signal.detector in DISTANCES:
        distance, value = signal.detector, signal.scores[signal.detector]
        threshold = layout.rule(distance, name).threshold
        phrase = f"{name} moved: {distance} = {value:.3g} is above {threshold:g} ({moved})"
        return Finding(distance, value, threshold, signal.p_value, phrase, evidence)
    detector = signal.cause if signal.cause in QUALITY_CAUSES else "marginal"
    new = told(signal.new_levels, signal.unseen) if signal.cause == "unseen" else ""
    what = _VERBS.get(signal.cause, "moved") + (f": {new}" if new else "")
    phrase = f"{name} {what} (p = {signal.p_value:.1g}; {moved})"
    threshold = layout.rule("marginal", name).threshold
    alarms = bool(signal.detector)
    return Finding(detector, signal.adjusted, threshold, signal.p_value, phrase, evidence, alarms)


_VERBS = {
    "location": "shifted",
    "scale": "changed its spread",
    "shape": "changed its distribution",
    "missing": "changed its share of missing values",
    "nonfinite": "changed its share of values that are not finite",
    "unseen": "has levels that the baseline never had",
    "type": "changed its share of values of the wrong type",
}


def bin_shifts(layout: Layout, name: str, signal: SignalVerdict) -> list[BinShift]:
    """The cells whose shares moved most, at most three, most moved first."""
    reference = layout.cells(layout.reference, name)
    is_numeric = isinstance(layout.baseline.signals[name], NumericSignal)
    last = [signal.missing, signal.nonfinite] if is_numeric else [signal.other, signal.unseen, signal.missing]
    current = np.array([*signal.counts, *last], np.int64)
    shares = reference / max(1, reference.sum()), current / max(1, current.sum())
    order = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:N_EVIDENCE].tolist()
    labels = cell_labels(layout, name)
    return [
        BinShift(labels[place], round(float(shares[0][place]), 6), round(float(shares[1][place]), 6))
        for place in order
        if shares[0][place] != shares[1][place]
    ]


def cell_labels(layout: Layout, name: str) -> list[str]:
    """What each cell of a signal holds, in words; of a sensitive one only which cell it is."""
    signal = layout.baseline.signals[name]
    n, is_sensitive = len(signal.counts), name in layout.sensitive
    if not isinstance(signal, NumericSignal):
        levels = [f"level {place} of {n}" for place in range(1, n + 1)] if is_sensitive else signal.levels
        return [*levels, "other levels", "unseen", "missing"]
    if is_sensitive:
        return [*(f"bin {place} of {n}" for place in range(1, n + 1)), "missing", "not finite"]
    edges = [f"{edge:.6g}" for edge in signal.edges]
    inner = [f"[{low}, {high})" for low, high in pairwise(edges)]
    ends = [f"< {edges[0]}", *inner, f">= {edges[-1]}"] if edges else ["any"]
    return [*ends, "missing", "not finite"]


def quiet(layout: Layout, verdict: Verdict, about: Subject, detector: str) -> Finding:
    """What there is to say of a subject that is resolved; the detector is that of the alert that fired."""
    windows = f"{layout.plan.policy.resolve_after} windows in a row"
    if about == LATENESS:
        phrase = f"few of its records were late in {windows}"
        return Finding(detector, verdict.late_share, layout.rule(detector).threshold, None, phrase, [])
    return Finding(detector, None, None, None, f"{_named(about)} looked like the baseline for {windows}", [])


def _named(about: Subject) -> str:
    """A subject in words."""
    return about[1] or ("its share of late records" if about == LATENESS else "its rate of outliers")


def transition_alert(
    layout: Layout,
    verdict: Verdict,
    about: Subject,
    finding: Finding,
    transition: Transition,
    severity: Severity,
) -> Alert:
    """Alert for a subject that fires, escalates or resolves."""
    state: State = "resolved" if transition == "resolves" else "firing"
    kind: Kind = about[0]  # type: ignore[assignment]  # subjects are made of kinds
    again = ", again and again" if transition == "escalates" else ""
    return _alert(layout, verdict, kind, about[1], finding, state, severity, f"{finding.phrase}{again}")


def change_alerts(layout: Layout, verdict: Verdict) -> list[Alert]:
    """One alert per signal that changed in the window, whatever the number of partitions and detectors that saw it."""
    points = sorted(verdict.change_points, key=lambda each: (each.signal, each.event_ms, each.partition, each.offset))
    return [
        _change_alert(layout, verdict, name, list(group)) for name, group in groupby(points, lambda each: each.signal)
    ]


def _change_alert(layout: Layout, verdict: Verdict, name: str, points: list[ChangePoint]) -> Alert:
    first = points[0]
    what = "spread" if first.detector == "adwin_scale" else "level"
    phrase = (
        f"{name} changed its {what} from {first.before:.2f} to {first.after:.2f} on the scale of normal scores"
        f" at partition {first.partition}, offset {first.offset}"
        + (f", and {len(points) - 1} more times in this window" if len(points) > 1 else "")
    )
    threshold = layout.rule(first.detector, name).threshold
    finding = Finding(first.detector, round(first.after - first.before, 6), threshold, None, phrase, [])
    return _alert(layout, verdict, "change_point", name, finding, "event", "warning", phrase)


def _alert(  # noqa: PLR0913 - one place fills in what all alerts on windows share
    layout: Layout,
    verdict: Verdict,
    kind: Kind,
    signal: str,
    finding: Finding,
    state: State,
    severity: Severity,
    phrase: str,
) -> Alert:
    return Alert(
        state=state,
        kind=kind,
        severity=severity,
        model=verdict.model,
        version=verdict.version,
        signal=signal,
        detector=finding.detector,
        value=finding.value,
        threshold=finding.threshold,
        p_value=finding.p_value,
        n=verdict.n,
        window=verdict.window,
        time_ms=verdict.window.end_ms,
        evidence=finding.evidence,
        baseline=verdict.baseline,
        plan=verdict.plan,
        final=verdict.final,
        summary=f"{subject(layout.baseline)}: {phrase}.",
    ).identified()


def closing_alert(  # noqa: PLR0913 - there is no verdict to take them from
    model: tuple[str, str],
    about: Subject,
    severity: Severity,
    window: Window,
    judged_by: tuple[str, str],
    time_ms: int,
    detector: str,
    why: str,
) -> Alert:
    """Resolve an alert on whose subject nothing more will be said; the window is the last one that was judged.

    Parameters
    ----------
    model, about, severity
        What the open alert is about, and how severe it is.
    window, judged_by
        The last window, and the hashes of the baseline and the plan that it was judged by.
    time_ms, detector, why
        When, by what and for which reason, in words.
    """
    kind: Kind = about[0]  # type: ignore[assignment]  # subjects are made of kinds
    return Alert(
        state="resolved",
        kind=kind,
        severity=severity,
        model=model[0],
        version=model[1],
        signal=about[1],
        detector=detector,
        value=None,
        threshold=None,
        n=0,
        window=window,
        time_ms=time_ms,
        baseline=judged_by[0],
        plan=judged_by[1],
        summary=f"{model[0]} {model[1]}: {_named(about)} is closed, {why}.",
    ).identified()


def retraction(alert: Alert) -> Alert:
    """Take back an alert that fired while the window was incomplete and does not hold for the whole of it."""
    return _corrected(alert, "resolved", alert.severity, "taken back, the complete window does not drift")


def upheld(alert: Alert, severity: Severity) -> Alert:
    """Put an alert back to where it stood before an incomplete window made it a page, or resolved it."""
    return _corrected(alert, "firing", severity, f"not so, the alert stays open as a {severity}")


def _corrected(alert: Alert, state: State, severity: Severity, phrase: str) -> Alert:
    # Not final: a consumer of final alerts never saw the one that this takes back.
    summary = f"{alert.summary[:-1]}: {phrase}."
    return msgspec.structs.replace(alert, state=state, severity=severity, final=False, summary=summary).identified()
