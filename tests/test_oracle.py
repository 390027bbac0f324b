"""The whole pipeline against a brute-force count over all records."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
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
    from collections.abc import Callable, Sequence

    from driftline.detectors.documents.baseline import Baseline
    from driftline.detectors.verdicts.decide import Verdict
    from tests.logs import Outcome

ROUGH = Shape(n=1500, stragglers=0.05, rubbish=0.08)
ODD = Shape(n=1500, stragglers=0.05, rubbish=0.04, odd=0.3)


WRONG_CLOCKS = replace(ROUGH, fast=0.15)
MIXED = replace(WRONG_CLOCKS, by_broker=0.5, flushes=0.01)
CREATED = replace(WRONG_CLOCKS, by_broker=0.0, flushes=0.005)


def both(seed: int, partitions: int, known: Sequence[Baseline], shape: Shape = ROUGH) -> tuple[Outcome, oracle.Found]:
    log = prediction_log(seed, shape)
    most = 8 if shape in (WRONG_CLOCKS, MIXED, CREATED) else 100
    plan = msgspec.structs.replace(SENSITIVE, max_open_windows=most)
    outcome = run(log, watching(plan, *known), partitions, sizes=(1, 40, 173))
    numbers = oracle.Numbers(max_open_windows=most)
    found = oracle.count(spread(log, partitions), [each.to_json() for each in known], numbers)
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


@pytest.mark.parametrize("shape", [WRONG_CLOCKS, MIXED, CREATED], ids=["broker's", "mixed", "producers'"])
@pytest.mark.parametrize("seed", [1, 2])
def test_under_wrong_clocks_too_windows_hold_what_a_count_over_all_records_says(seed: int, shape: Shape) -> None:
    known = baselines()
    outcome, found = both(seed, 2, known, shape)
    by_hash = {each.hash: each for each in known}
    counted = {key: as_counted(verdict, by_hash[verdict.baseline]) for key, verdict in outcome.final.items()}
    assert counted == found.final
    assert len(counted) > 30
    refused = {
        (place, offset): reason for place, each in enumerate(outcome.profiles) for offset, reason in each.rejected
    }
    assert refused == found.rejected
    tally = outcome.tally
    assert (tally["accepted"], tally["late"], tally["flushes"]) == (found.accepted, found.late, found.flushes)
    assert tally["read"] == tally["accepted"] + tally["late"] + tally["rejected"] + tally["flushes"] == 1500


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


def by_other_rules() -> list[Baseline]:
    """The same models, where ages were text at times, nights are booleans, and there are markers of missing values."""
    changed: dict[str, dict[str, Any]] = {
        "age": {"text": 20},
        "country": {"markers": ("", "NA")},
        "night": {"boolean": True, "markers": ("NA",)},
    }
    return [
        msgspec.structs.replace(
            each,
            signals={
                name: msgspec.structs.replace(signal, **changed.get(name, {})) for name, signal in each.signals.items()
            },
        ).sealed()
        for each in baselines()
    ]


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("known", [baselines, by_other_rules])
def test_odd_records_are_counted_as_a_count_by_the_baselines_rules_says(
    known: Callable[[], list[Baseline]], partitions: int
) -> None:
    outcome, found = both(6, partitions, known(), ODD)
    by_hash = {each.hash: each for each in known()}
    counted = {key: as_counted(verdict, by_hash[verdict.baseline]) for key, verdict in outcome.final.items()}
    assert counted == found.final
    refused = {
        (place, offset): reason for place, each in enumerate(outcome.profiles) for offset, reason in each.rejected
    }
    assert refused == found.rejected
    told = {
        (event.origin.partition, event.origin.offset, event.detector, event.signal)
        for event in outcome.events
        if event.kind == "data_quality" and event.origin
    }
    assert told == found.events
    assert sum((window.violations for window in found.final.values()), Counter())["age", "type"] > 30


@pytest.mark.parametrize("partitions", [1, 4])
def test_positions_are_named_by_the_baseline_in_force_at_the_records_own_window(partitions: int) -> None:
    """Late ones as well; and today's records are not named by an order, or a number of inputs, of tomorrow's."""
    today = churn("1")
    names = ["device", "country", "age", "income", "prediction"]
    turned = {name: today.signals[name] for name in names}
    soon = msgspec.structs.replace(today, signals=turned, effective_from_ms=START_MS + 8 * MINUTE_MS).sealed()
    fewer = {name: today.signals[name] for name in ("age", "country", "prediction")}
    tomorrow = msgspec.structs.replace(
        today, signals=fewer, outliers=None, effective_from_ms=START_MS + 86_400_000
    ).sealed()
    known = [today, soon, tomorrow, churn("2")]
    outcome, found = both(7, partitions, known, Shape(n=1500, stragglers=0.05, odd=0.1))
    by_hash = {each.hash: each for each in known}
    counted = {key: as_counted(verdict, by_hash[verdict.baseline]) for key, verdict in outcome.final.items()}
    assert counted == found.final
    ages = [window.cells["age"] for key, window in found.final.items() if key[:2] == ("churn", "1")]
    assert any(window.baseline == soon.hash for window in found.final.values())
    assert any("nonfinite" in each for each in ages)  # the log goes on in today's order, which is wrong from then on
    assert sum(each["nonfinite"] for each in ages[:4]) < sum(each["nonfinite"] for each in ages[-4:])
