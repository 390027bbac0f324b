"""The whole pipeline against a brute-force count over all records."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests import oracle
from tests.logs import (
    MINUTE_MS,
    SENSITIVE,
    START_MS,
    Shape,
    baselines,
    churn,
    prediction_log,
    run,
    spread,
    watching,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.baseline import Baseline
    from driftline.detectors.judging import Verdict
    from tests.logs import Outcome

ROUGH = Shape(n=1500, stragglers=0.05, rubbish=0.08)


def both(seed: int, partitions: int, known: Sequence[Baseline]) -> tuple[Outcome, oracle.Found]:
    log = prediction_log(seed, ROUGH)
    outcome = run(log, watching(SENSITIVE, *known), partitions, sizes=(1, 40, 173))
    found = oracle.count(spread(log, partitions), [each.to_json() for each in known], oracle.Numbers())
    return outcome, found


def as_counted(verdict: Verdict, baseline: Baseline) -> oracle.Window:
    """A verdict in the oracle's words."""
    cells: dict[str, dict[str, int]] = {}
    for name, signal in verdict.signals.items():
        profile = baseline.signals[name]
        labels = (
            [f"level {each}" for each in profile.levels]
            if hasattr(profile, "levels")
            else [f"bin {place}" for place in range(len(profile.counts))]
        )
        others = {"missing": signal.missing, "nonfinite": signal.nonfinite}
        others |= {"other": signal.other, "unseen": signal.unseen}
        counted = dict(zip(labels, signal.counts, strict=True)) | others
        cells[name] = {label: count for label, count in counted.items() if count}
    return oracle.Window(
        n=verdict.n,
        late=verdict.late,
        cells={name: Counter(counted) for name, counted in cells.items() if counted},
        violations=Counter(
            {(name, fault): n for name, faults in verdict.violations.items() for fault, n in faults.items()}
        ),
        baseline=verdict.baseline,
    )


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_final_windows_hold_exactly_what_a_count_over_all_records_says(seed: int, partitions: int) -> None:
    known = baselines()
    outcome, found = both(seed, partitions, known)
    by_hash = {each.hash: each for each in known}
    counted = {key: as_counted(verdict, by_hash[verdict.baseline]) for key, verdict in outcome.final.items()}
    assert counted == found.final
    assert len(counted) > 40
    assert sum(window.late for window in counted.values()) > 0


@pytest.mark.parametrize("partitions", [1, 4])
def test_what_is_refused_and_what_is_told_of_single_records_is_what_the_count_says(partitions: int) -> None:
    outcome, found = both(4, partitions, baselines())
    refused = {
        (place, offset): reason for place, each in enumerate(outcome.profiles) for offset, reason in each.rejected
    }
    assert refused == found.rejected
    assert len(set(refused.values())) >= 8
    told = {
        (event.origin.partition, event.origin.offset, event.detector, event.signal)
        for event in outcome.events
        if event.kind == "data_quality" and event.origin
    }
    assert told == found.events
    tally = outcome.tally
    assert (tally["accepted"], tally["late"]) == (found.accepted, found.late)
    assert tally["read"] == tally["accepted"] + tally["late"] + tally["rejected"] == 1500


@pytest.mark.parametrize("partitions", [1, 4])
def test_every_window_is_counted_by_the_baseline_that_was_in_force_at_its_start(partitions: int) -> None:
    later = churn("1", seed=9, effective_from_ms=START_MS + 8 * MINUTE_MS)
    first = churn("2", seed=5, effective_from_ms=START_MS + 4 * MINUTE_MS)
    known = [churn("1"), later, first]
    outcome, found = both(5, partitions, known)
    by_hash = {each.hash: each for each in known}
    counted = {key: as_counted(verdict, by_hash[verdict.baseline]) for key, verdict in outcome.final.items()}
    assert counted == found.final
    assert {window.baseline for window in counted.values()} == set(by_hash)
    refused = {
        (place, offset): reason for place, each in enumerate(outcome.profiles) for offset, reason in each.rejected
    }
    assert refused == found.rejected
    assert "no_baseline_yet" in refused.values()
