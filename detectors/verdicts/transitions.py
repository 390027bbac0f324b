"""What a window's verdict, or the lack of one, does to the alerts of its model version."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from driftline.detectors.documents.alerts import Alert, Window
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.layout.watch import ModelKey, Watch
from driftline.detectors.verdicts.alert_builder import (
    Finding,
    Subject,
    change_alerts,
    closing_alert,
    judged,
    quiet,
    retraction,
    subjects,
    transition_alert,
    upheld,
)
from driftline.detectors.verdicts.decide import Verdict
from driftline.detectors.verdicts.policy import Standing, is_idle, judge

Standings = dict[Subject, Standing]
"""Per (kind, signal), where its alert stands."""


class LastWindow(msgspec.Struct, array_like=True, frozen=True):
    """The last window of a model version that has a final verdict: its start, and the baseline's hash."""

    start_ms: int
    baseline: str


def alerts_of(layout: Layout, verdict: Verdict, standings: Standings) -> list[Alert]:
    """Alerts of one window; ``standings`` is brought up to date."""
    alerts = change_alerts(layout, verdict)
    drifting = _drifting(subjects(layout, verdict), standings)
    for subject in sorted(filter(judged(layout, verdict), drifting.keys() | standings.keys())):
        before = standings.get(subject, Standing())
        finding = drifting.get(subject)
        standing, transition = judge(layout.plan.policy, before, drifted=finding is not None)
        if transition and finding:
            standing = replace(standing, detector=finding.detector)
        standings[subject] = standing
        if is_idle(standing):
            del standings[subject]
        if transition:
            severity = standing.severity or before.severity or "warning"
            told = finding or quiet(layout, verdict, subject, before.detector)
            alerts.append(transition_alert(layout, verdict, subject, told, transition, severity))
    return alerts


def _drifting(found: Mapping[Subject, Finding], standings: Mapping[Subject, Standing]) -> dict[Subject, Finding]:
    """What alarms, and open alerts on signals that are still listed."""
    drifting = {subject: finding for subject, finding in found.items() if finding.alarms}
    for (_, signal), finding in found.items():
        still = [subject for subject, each in standings.items() if each.severity and signal and subject[1] == signal]
        drifting |= {subject: finding for subject in still if subject not in drifting}
    return drifting


def corrections(
    provisional: dict[str, Alert], standings: Mapping[Subject, Standing], start_ms: int, alerts: Sequence[Alert]
) -> Iterator[Alert]:
    """Put right what was said provisionally up to a window that is final now, and does not hold.

    The last alert of a fingerprint must say what is true, so an alert that a final one or a later provisional one
    follows needs no correction. ``provisional`` is brought up to date.
    """
    due = [each for each in provisional.values() if each.window.start_ms <= start_ms]
    for alert in due:
        del provisional[alert.id]
    followed = {each.fingerprint for each in (*alerts, *provisional.values())}
    last = {each.fingerprint: each for each in sorted(due, key=lambda each: each.window.start_ms)}
    for alert in last.values():
        if alert.state == "event" or alert.fingerprint in followed:
            continue
        severity = standings.get((alert.kind, alert.signal), Standing()).severity
        if severity and (alert.state, alert.severity) != ("firing", severity):
            yield upheld(alert, severity)
        elif not severity and alert.state == "firing":
            yield retraction(alert)


def no_data(key: ModelKey, standings: Standings, last: LastWindow, due_ms: int, watch: Watch) -> list[Alert]:
    """Resolve what is open of a model version without data for as long as the plan says."""
    why = f"no more data for {watch.plan.policy.resolve_without_data} windows"
    return _closed(key, standings, last, watch, (due_ms, "no_data", why))


def retirement(key: ModelKey, standings: Standings, last: LastWindow, watch: Watch) -> list[Alert]:
    """Resolve what is open of a model version whose baseline was withdrawn."""
    end_ms = last.start_ms + watch.plan.window_ms
    return _closed(key, standings, last, watch, (end_ms, "retired", "its baseline was retired"))


def _closed(
    key: ModelKey, standings: Standings, last: LastWindow, watch: Watch, reason: tuple[int, str, str]
) -> list[Alert]:
    """Resolve all that is open, and forget the rest; the reason is when, by what and why, in words."""
    opened = {about: each.severity for about, each in sorted(standings.items()) if each.severity}
    standings.clear()
    window, judged_by = Window(last.start_ms, last.start_ms + watch.plan.window_ms), (last.baseline, watch.plan_hash)
    return [closing_alert(key, about, severity, window, judged_by, *reason) for about, severity in opened.items()]
