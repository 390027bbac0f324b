"""The demo's closing report: which alert found which fault, how soon, and which faults none found."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from driftline.detectors.documents.alerts import Alert
from driftline.streams.demo.stream import EPOCH_MS, WINDOW_MS, Fault, Phase


class Discovery(NamedTuple):
    """The first alert of its kind in a phase.

    Parameters
    ----------
    alert
        The alert.
    after_ms
        Event time from the phase's start to the alert's: to the end of its window, or to its record.
    windows
        Windows of the phase until then, the alert's own included.
    """

    alert: Alert
    after_ms: int
    windows: int


class Outcome(NamedTuple):
    """What became of one fault.

    Parameters
    ----------
    fault
        Which.
    found
        Alerts about the signals that the fault touches, earliest first.
    beside
        Alerts about other signals while it lasted.
    """

    fault: Fault
    found: list[Discovery]
    beside: list[Discovery]


def phase_of(phases: Sequence[Phase], start_ms: int) -> Phase | None:
    """The phase of the window that starts there; None behind the last one.

    Examples
    --------
    >>> phases = [Phase(0, 2, None), Phase(2, 3, None)]
    >>> phase_of(phases, EPOCH_MS + 2 * WINDOW_MS) is phases[1], phase_of(phases, EPOCH_MS + 3 * WINDOW_MS)
    (True, None)
    """
    index = (start_ms - EPOCH_MS) // WINDOW_MS
    return next((phase for phase in phases if phase.start <= index < phase.stop), None)


def discoveries(phases: Sequence[Phase], alerts: Iterable[Alert]) -> dict[Phase, list[Discovery]]:
    """Per phase, the first alert of each kind, detector and signal, earliest first. What is resolved finds nothing."""
    found: dict[Phase, dict[tuple[str, ...], Discovery]] = {phase: {} for phase in phases}
    for alert in sorted(alerts, key=lambda each: (each.time_ms, each.kind, each.signal, each.detector, each.id)):
        phase = phase_of(phases, alert.window.start_ms)
        if phase is not None and alert.state != "resolved":
            start_ms = EPOCH_MS + phase.start * WINDOW_MS
            windows = (alert.window.start_ms - start_ms) // WINDOW_MS + 1
            about = (alert.kind, alert.detector, alert.signal)
            found[phase].setdefault(about, Discovery(alert, alert.time_ms - start_ms, windows))
    return {phase: list(firsts.values()) for phase, firsts in found.items()}


def outcomes(phases: Sequence[Phase], alerts: Iterable[Alert]) -> list[Outcome]:
    """What became of every fault, in order."""
    told = discoveries(phases, alerts)
    return [
        Outcome(
            phase.fault,
            [each for each in told[phase] if each.alert.signal in phase.fault.signals],
            [each for each in told[phase] if each.alert.signal not in phase.fault.signals],
        )
        for phase in phases
        if phase.fault is not None
    ]


def false_alarms(phases: Sequence[Phase], alerts: Iterable[Alert]) -> list[Discovery]:
    """Alerts of the clean half, the first phase."""
    return discoveries(phases, alerts)[phases[0]]


def table(results: Sequence[Outcome]) -> Iterator[str]:
    """Lines for people: a fault a line, with everything that found it beneath one another."""
    width = max(len(result.fault.name) for result in results) + 2
    yield f"{'fault':{width}}{'found by':30}after (event time)"
    for result in results:
        name = result.fault.name
        for discovery in result.found:
            yield f"{name:{width}}{_what(discovery.alert):30}{_after(discovery)}"
            name = ""
        if not result.found:
            yield f"{name:{width}}NOT FOUND: {result.fault.hidden}".rstrip(": ")
    for result in results:
        for each in result.beside:
            yield f"beside: {_what(each.alert)} alarmed during {result.fault.name!r}, which does not touch it"


def _what(alert: Alert) -> str:
    return f"{alert.detector} on {alert.signal or 'the whole'}"


def _after(discovery: Discovery) -> str:
    seconds = f"{discovery.after_ms / 1000:.1f} s"
    if discovery.alert.origin is not None:
        return f"{seconds}, at the record itself"
    return f"{seconds}, {discovery.windows} window{'s' if discovery.windows > 1 else ''}"
