"""Alerts of one window: changes, and the alerts that its drift opens, escalates, keeps or resolves."""

from collections.abc import Mapping

from msgspec.structs import replace

from driftline.detectors.alerts import Alert
from driftline.detectors.judging import Verdict
from driftline.detectors.layout import Layout
from driftline.detectors.policy import Standing, is_idle, judge
from driftline.detectors.reporting import (
    Finding,
    Subject,
    change_alerts,
    judged,
    quiet,
    subjects,
    transition_alert,
)


def alerts_of(layout: Layout, verdict: Verdict, standings: dict[Subject, Standing]) -> list[Alert]:
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
