"""How large the records about a model version can become: a baseline that would make ones too large is refused."""

import orjson

from driftline.detectors.documents.duplicates import SAMPLE
from driftline.detectors.documents.new_levels import LONGEST, MOST_OF_WINDOW, MOST_TOLD
from driftline.detectors.documents.partials import MAX_CHANGES
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.layout.vector_layout import Layout

MAX_RECORD_BYTES = 2**19
"""No partial, verdict or alert is larger: half of what a broker takes unless it is told otherwise."""

_FIXED = 4_000
"""Bytes of a document apart from what its signals add: names of fields, hashes, numbers, a model's name three times."""
_COUNT = 13
"""A count of up to a million million records, and its comma."""
_SIGNAL = 700
"""What a verdict says of a signal apart from its counts and its name: ten scores of 40 bytes, names of fields."""
_VIOLATIONS = 60
"""A signal's broken constraints, apart from the counts."""
_CHANGE = 220
"""A change point apart from the signal's name."""

_SAMPLE = 16 + 12 * SAMPLE
"""A sample of records: hashes and counts."""
_LEVEL = 8 * LONGEST + 20
"""A new level by name, escaped, and how often it came."""


def check_size(layout: Layout) -> None:
    """Refuse a baseline whose records would be larger than the plan allows, or than Kafka takes.

    Raises
    ------
    OperatorError
        Naming the key, or how many bytes.
    """
    baseline, plan = layout.baseline, layout.plan
    key = (baseline.model, baseline.version)
    if len(baseline.signals) > plan.max_signals:
        raise OperatorError(f"plan.max_signals = {plan.max_signals}: {key!r} has {len(baseline.signals)}")
    for name, signal in baseline.signals.items():
        if len(signal.counts) > plan.max_levels:
            raise OperatorError(
                f"plan.max_levels = {plan.max_levels}: signal {name!r} of {key!r} has {len(signal.counts)}"
            )
    found = {"partial": largest_partial(layout), "verdict": largest_verdict(layout), "alert": largest_alert(layout)}
    for kind, size in found.items():
        if size > MAX_RECORD_BYTES:
            raise OperatorError(
                f"baseline of {key!r}: {len(layout.signals)} signals with {layout.size} cells would make {kind}s of up to "
                f"{size} bytes, and at most {MAX_RECORD_BYTES} are allowed: build it with fewer signals, fewer levels or "
                "shorter names"
            )


def largest_partial(layout: Layout) -> int:
    """Most bytes of a partial: every count in eight bytes, change points and new levels as many as are kept."""
    names = sum(sorted(map(_length, layout.signals))[-MOST_OF_WINDOW:])
    return _FIXED + 8 * layout.size + _largest_changes(layout) + _SAMPLE + MOST_OF_WINDOW * _LEVEL + names


def largest_verdict(layout: Layout) -> int:
    """Most bytes of a verdict: every number at its longest."""
    names = sum(map(_length, layout.signals))
    signals = len(layout.signals) * (_SIGNAL + _VIOLATIONS + _COUNT * len(CONSTRAINTS)) + 2 * names
    return _FIXED + signals + _COUNT * layout.size + _largest_changes(layout) + MOST_OF_WINDOW * _LEVEL


def largest_alert(layout: Layout) -> int:
    """Most bytes of an alert: it names a signal, and three of its levels, in its evidence and in its sentence."""
    levels = [
        sum(sorted(map(_length, getattr(signal, "levels", ())))[-3:]) for signal in layout.baseline.signals.values()
    ]
    names = 4 * max(map(_length, layout.signals), default=0) + 2 * max(levels, default=0)
    return _FIXED + names + MOST_TOLD * _LEVEL


def _largest_changes(layout: Layout) -> int:
    """Most bytes of the change points of a window: the first ones, and the first of every signal."""
    names = [_length(name) for name in layout.signals]
    return MAX_CHANGES * (_CHANGE + max(names, default=0)) + len(names) * _CHANGE + sum(names)


def _length(text: str) -> int:
    return len(orjson.dumps(text))
