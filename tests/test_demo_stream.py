"""The demo's stream, judged in this process: what the demo claims is found is found, and the clean half is quiet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import orjson
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState
from driftline.detectors.windows import profiling
from driftline.streams.demo.report import Outcome, false_alarms, outcomes, table
from driftline.streams.demo.stream import (
    EPOCH_MS,
    FAULTS,
    MODEL,
    VERSION,
    WINDOW_MS,
    Phase,
    applicants,
    documents,
    schedule,
    training_columns,
)
from driftline.streams.formats import wire

if TYPE_CHECKING:
    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.verdicts.decide import Verdict

PARTITIONS = 2
ROWS = 500


@dataclass
class Log:
    """What one partition holds and what both stages made of all of them."""

    phases: list[Phase]
    verdicts: list[Verdict] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)


class Record(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    timestamp_type: int = 1


@pytest.fixture(scope="module")
def judged() -> Log:
    """The whole stream through both steps, a window at a time, records dealt to the partitions in turn."""
    watch = Watch(Plan(window_ms=WINDOW_MS, lateness_ms=1_000)).with_baseline(
        fit(MODEL, VERSION, training_columns(5_000))
    )
    log = Log(schedule(clean=8, faulty=2, pause=4))
    end = log.phases[-1].stop
    states = [profiling.PartitionState(partition, PARTITIONS) for partition in range(PARTITIONS)]
    fleet = FleetState(0)
    for window in documents([*log.phases, Phase(end, end + 1, None)], ROWS):
        for partition in range(PARTITIONS):
            start = states[partition].next_offset
            records = [
                Record("predictions", partition, start + place, document["timestamp"], orjson.dumps(document))
                for place, document in enumerate(window[partition::PARTITIONS])
            ]
            batch, rejected = wire.decode(records, watch, 2**20)
            assert not rejected
            states[partition], profiled = profiling.step(states[partition], batch, watch)
            items: list[verdict.Item] = [*profiled.partials]
            items += [] if profiled.mark is None else [profiled.mark]
            fleet, found = verdict.step(fleet, enumerate(items, start=fleet.next_offset), watch)
            log.verdicts += found.verdicts
            log.alerts += profiled.events + found.alerts
    return log


def detectors(result: Outcome) -> set[tuple[str, str]]:
    return {(each.alert.detector, each.alert.signal) for each in result.found}


def test_every_window_is_judged_whole_and_in_order(judged: Log) -> None:
    starts = [each.window.start_ms for each in judged.verdicts]
    assert starts == [EPOCH_MS + index * WINDOW_MS for index in range(judged.phases[-1].stop)]
    assert {each.n for each in judged.verdicts} == {ROWS}


def test_the_clean_half_has_no_alert(judged: Log) -> None:
    assert false_alarms(judged.phases, judged.alerts) == []


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (FAULTS[0], {("marginal", "income")}),
        (FAULTS[1], {("category", "purpose"), ("unseen", "purpose")}),
        (FAULTS[2], {("null", "months_employed"), ("missing", "months_employed")}),
        (FAULTS[3], {("range", "age")}),
        (FAULTS[4], set()),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_each_fault_is_found_by_what_should_find_it(judged: Log, fault: object, expected: set[tuple[str, str]]) -> None:
    (result,) = (each for each in outcomes(judged.phases, judged.alerts) if each.fault is fault)
    assert detectors(result) >= expected
    assert bool(result.found) == bool(expected)
    assert all(each.windows == 1 for each in result.found if (each.alert.detector, each.alert.signal) in expected)


def test_single_records_are_told_of_at_their_own_time(judged: Log) -> None:
    (result,) = (each for each in outcomes(judged.phases, judged.alerts) if each.fault is FAULTS[3])
    (phase,) = (each for each in judged.phases if each.fault is FAULTS[3])
    (window,) = documents([Phase(phase.start, phase.start + 1, phase.fault)], ROWS)
    first = next(each for each in window if each["features"]["age"] == 200.0)
    assert result.found[0].after_ms == first["timestamp"] - EPOCH_MS - phase.start * WINDOW_MS


def test_the_report_names_what_found_a_fault_and_what_was_not_found(judged: Log) -> None:
    text = "\n".join(table(outcomes(judged.phases, judged.alerts)))
    assert "range on age" in text
    assert f"{FAULTS[4].name}  NOT FOUND: {FAULTS[4].hidden}" in text


def test_alerts_are_resolved_after_the_fault_and_find_nothing(judged: Log) -> None:
    assert {each.signal for each in judged.alerts if each.state == "resolved"} >= {"income", "purpose"}
    resolved = [each for each in judged.alerts if each.state == "resolved"]
    assert all(not each.found for each in outcomes(judged.phases, resolved))


def test_the_stream_is_the_same_however_much_of_it_is_made() -> None:
    phases = schedule(clean=2, faulty=1, pause=1)
    whole = list(documents(phases, 50))
    assert list(documents(phases[1:2], 50)) == whole[2:3]
    assert list(documents(phases, 50, seed=1)) != whole


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_touches_its_signals_only_and_leaves_its_argument_alone(fault: object) -> None:
    assert isinstance(fault, type(FAULTS[0]))
    clean = applicants(400, np.random.default_rng(1))
    before = {name: column.copy() for name, column in clean.items()}
    faulty = fault.inject(clean, np.random.default_rng(2))
    changed = {name for name in clean if not np.array_equal(clean[name], faulty[name])}
    assert changed
    assert changed <= fault.signals
    assert all(np.array_equal(before[name], clean[name]) for name in clean)


def test_the_mixed_up_feature_keeps_its_margin_and_loses_its_correlation() -> None:
    clean = applicants(2_000, np.random.default_rng(3))
    faulty = FAULTS[4].inject(clean, np.random.default_rng(4))
    assert sorted(clean["monthly_spending"]) == sorted(faulty["monthly_spending"])

    def correlation(columns: dict[str, np.ndarray]) -> float:
        return float(np.corrcoef(np.log(columns["income"]), np.log(columns["monthly_spending"]))[0, 1])

    assert correlation(clean) > 0.9
    assert abs(correlation(faulty)) < 0.1
