"""Alerts: what is said, about which signal, under which identity.

An alert's id is a hash of what it is about, never of when it was made, so an alert that is sent twice is one alert.
"""

import hashlib
from typing import Literal

import msgspec

from driftline.detectors.documents.baseline import Baseline

FORMAT = "driftline.alert/1"
State = Literal["firing", "resolved", "event"]
Kind = Literal["drift", "change_point", "outlier", "data_quality"]
Severity = Literal["info", "warning", "critical"]


class Window(msgspec.Struct, frozen=True):
    """Half-open interval of event time, milliseconds since the epoch."""

    start_ms: int
    end_ms: int


class Origin(msgspec.Struct, frozen=True):
    """Where a single record lies."""

    topic: str
    partition: int
    offset: int


class BinShift(msgspec.Struct, frozen=True):
    """One bin's share in the baseline and in the window."""

    bin: str
    baseline_share: float
    window_share: float


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, the document on topic ``alerts``; its Kafka key is the fingerprint.

    Parameters
    ----------
    format
        Of this document.
    id
        Deterministic: equal for every delivery of this alert.
    fingerprint
        Equal for all alerts about the same thing, so that the topic, compacted, is the table of open alerts.
    state
        ``firing`` and ``resolved`` for conditions that last, ``event`` for what happened once.
    kind, detector, signal
        What was found, by what, in which signal (empty: the whole window or record).
    value, threshold, p_value
        The detector's statistic, what it was held against, and its p-value where it has one.
    severity
        A drift that goes on turns from ``warning`` to ``critical``.
    model, version, segment, window
        Where it was found.
    n
        Records in the window; 1 for a single record.
    origin
        Of a single record; null where the alert is about a window.
    time_ms
        Event time: the window's end, or the record's.
    evidence
        The bins that moved most.
    baseline, plan
        Hashes of what it was judged by.
    final
        False while partitions are idle and the window may still grow, and where such an alert is taken back. Final alerts
        alone make sense without the others.
    summary
        One sentence to act on.
    """

    format: Literal["driftline.alert/1"] = msgspec.field(default="driftline.alert/1")
    id: str = ""
    fingerprint: str = ""
    state: State
    kind: Kind
    severity: Severity
    model: str
    version: str
    segment: dict[str, str] = {}
    signal: str
    detector: str
    value: float | None
    threshold: float | None
    p_value: float | None = None
    n: int
    window: Window
    time_ms: int
    origin: Origin | None = None
    evidence: list[BinShift] = []
    baseline: str
    plan: str
    final: bool = True
    summary: str

    def identified(self) -> "Alert":
        """This alert with its fingerprint and id."""
        about: tuple[object, ...] = (self.model, self.version, self.kind, self.signal)
        moment: tuple[object, ...] = (self.window.start_ms, self.state, self.severity, self.baseline, self.plan)
        if self.origin is not None:
            about += (self.detector,)
            moment = (self.origin.topic, self.origin.partition, self.origin.offset)
        fingerprint = digest(*about)
        return msgspec.structs.replace(self, fingerprint=fingerprint, id=digest(fingerprint, *moment))


def digest(*parts: object) -> str:
    """First 32 hexadecimal digits of the SHA-256 of the parts, unambiguously joined.

    Examples
    --------
    >>> digest("a", "bc") == digest("ab", "c")
    False
    """
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def subject(baseline: Baseline) -> str:
    """How a summary names the model version."""
    return f"{baseline.model} {baseline.version}"
