"""``driftline windows --summary``: what became of each model version's windows, and which length would suit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING

from driftline.streams.terminal import clock, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftline.detectors.plan import Plan
    from driftline.detectors.verdicts.decide import Verdict

MOST_SIGNALS = 8
"""Signals that a summary names."""
ROUND_MS = tuple(
    unit * factor for unit, factors in (
        (1_000, (1, 2, 5, 10, 15, 30)), (60_000, (1, 2, 5, 10, 15, 30)), (3_600_000, (1, 2, 3, 6, 12)),
        (86_400_000, (1, 7, 28)),
    ) for factor in factors
)  # fmt: skip
"""Lengths of windows that people choose."""


@dataclass(slots=True)
class Summary:
    """What is known of one model version's windows.

    Parameters
    ----------
    rows, late
        Window start to its number of records, and of late ones: of the newest verdict on it.
    statuses
        Window start to the status of the newest verdict on it.
    drifted
        Windows in which each signal drifted, by final verdicts.
    length_ms
        Length of its newest window.
    """

    rows: dict[int, int] = field(default_factory=dict)
    late: dict[int, int] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    drifted: dict[int, list[str]] = field(default_factory=dict)
    length_ms: int = 1

    def take(self, verdict: Verdict) -> None:
        """Take in a verdict: it replaces an earlier one on its window."""
        start_ms = verdict.window.start_ms
        self.rows[start_ms], self.late[start_ms] = verdict.n, verdict.late
        self.statuses[start_ms] = verdict.status
        self.drifted[start_ms] = [name for name, signal in verdict.signals.items() if signal.drift]
        self.length_ms = verdict.window.end_ms - start_ms

    @property
    def counts(self) -> Counter[str]:
        """Windows by status."""
        return Counter(self.statuses.values())


def summarised(summaries: dict[tuple[str, str], Summary], plan: Plan) -> Iterator[str]:
    """Yield the lines for people, each short enough for a terminal of 80 columns."""
    for (model, version), found in sorted(summaries.items()):
        n, late = sum(found.rows.values()), sum(found.late.values())
        yield printable(f"{model} {version}")
        yield f"  windows      {len(found.statuses)}, from {clock(min(found.rows))} to {clock(max(found.rows))}"
        yield f"  verdicts     {', '.join(f'{status} {count}' for status, count in found.counts.most_common())}"
        yield f"  records      {n}, of which {late} late ({late / max(1, n):.1%})"
        drifted = Counter(name for names in found.drifted.values() for name in names)
        for name, count in drifted.most_common(MOST_SIGNALS):
            yield printable(f"  drifted      {count} x {name[:56]}")
        if len(drifted) > MOST_SIGNALS:
            yield f"  drifted      {len(drifted) - MOST_SIGNALS} more signals"
        if hint := insufficient(found, plan.rows_needed(model)):
            yield from wrap(hint, 80, initial_indent="  hint         ", subsequent_indent=" " * 15)


def insufficient(found: Summary, needed: int) -> str:
    """Return what to do where most windows have too few records; empty where they have not.

    Examples
    --------
    Windows of a minute with 30 records each, and 100 are needed: 4 minutes, rounded up to what people choose.

    >>> found = Summary(rows={0: 30, 60_000: 30}, statuses={0: "insufficient", 60_000: "insufficient"}, length_ms=60_000)
    >>> insufficient(found, 100)
    'half of the windows have at most 30 records, needed are 100: plan.window_ms = 300000 would suit'
    """
    typical = max(1, int(median(found.rows.values())))
    if found.counts["insufficient"] * 2 <= len(found.statuses) or typical >= needed:
        return ""
    wanted_ms = -(-needed * found.length_ms // typical)
    suits = next((each for each in ROUND_MS if each >= wanted_ms), None)
    length = f"plan.window_ms = {suits} would suit" if suits else "lower plan.min_rows"
    return f"half of the windows have at most {typical} records, needed are {needed}: {length}"
