"""Stage 2: when a verdict is final, what idle partitions may hasten, and what is put right afterwards."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from driftline.detectors.arrays import little_endian
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.layout.vector_layout import LATE, N
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.snapshots import verdict_snapshot
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged, ModelState
from driftline.detectors.verdicts.policy import Standing
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import (
    MINUTE_MS,
    START_MS,
    Profile,
    batch_of,
    by_the_minute,
    extend,
    final_verdicts,
    plain,
    said,
    sample,
    watching,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.detectors.documents.alerts import Alert
    from driftline.detectors.documents.predictions import Prediction
    from driftline.detectors.layout.watch import Watch
    from driftline.detectors.verdicts.verdict import Item

QUIET = {name: {"enabled": False} for name in ("adwin", "adwin_scale", "half_space_trees", "outlier_rate")}
"""Only the marginal test speaks, so that a window drifts when its values do."""
PLAN = plan_from({"detectors": QUIET})
WATCH = watching(PLAN, plain())


def rows(minute: int, shift: float, n: int = 300) -> list[Prediction]:
    return sample(n, minute, shift)


@cache
def partial(minute: int, partition: int, shift: float = 0.0, n: int = 300, upto: int | None = None) -> Partial:
    """One partition's part of a minute; its rows differ from partition to partition."""
    found = Profile(PartitionState(partition, 2))
    start_ms = START_MS + minute * MINUTE_MS
    found.step(batch_of(sample(n, 100 * minute + partition, shift), start_ms, 0, partition), WATCH)
    window = found.state.cells["m", "1"].windows[start_ms]
    return Partial(
        model="m", version="1", start_ms=start_ms, partition=partition, baseline=plain().hash,
        upto=1000 * (minute + 1) if upto is None else upto,
        vector=little_endian(window.vector), itemsize=window.vector.itemsize,
    )  # fmt: skip


def mark(minutes: int, partition: int, partitions: int = 2, *, idle: bool = False) -> Mark:
    """A partition that has closed so many minutes."""
    closed_ms = START_MS + minutes * MINUTE_MS
    return Mark(partition, partitions, closed_ms, idle, closings=((closed_ms, NO_TIME, NO_TIME),))


class Fleet:
    """Stage 2, driven item by item; every step's output is kept."""

    def __init__(self, watch: Watch = WATCH) -> None:
        self.watch, self.state, self.out = watch, FleetState(0), Judged()
        self.saved: dict[bytes, bytes] = {}

    def take(self, *items: Partial | Mark) -> Judged:
        """Take items in, one step each, and say what came of them."""
        found = Judged()
        for item in items:
            self.state, step = verdict.step(self.state, [(self.state.next_offset, item)], self.watch)
            extend(found, step)
        extend(self.out, found)
        return found

    def restart(self) -> None:
        """Go on from a snapshot."""
        self.saved |= verdict_snapshot.dump(self.state, self.watch)
        self.state, damaged = verdict_snapshot.load(0, self.saved)
        assert not damaged

    def open_alerts(self) -> dict[str, str]:
        """What the topic, compacted, says is open: severity by signal."""
        newest = {alert.fingerprint: alert for alert in self.out.alerts}
        return {alert.signal: alert.severity for alert in newest.values() if alert.state == "firing"}


def states(alerts: Sequence[Alert]) -> list[tuple[str, str, str, bool]]:
    return [(alert.signal, alert.state, alert.severity, alert.final) for alert in alerts]


def undisturbed(*items: Partial | Mark) -> Judged:
    fleet = Fleet()
    fleet.take(*items)
    return fleet.out


# Finality


def test_a_window_is_final_when_every_partition_has_passed_its_end() -> None:
    fleet = Fleet()
    assert not fleet.take(partial(0, 0), mark(1, 0), partial(0, 1)).verdicts
    [found] = fleet.take(mark(1, 1)).verdicts
    assert (found.n, found.final, found.status) == (600, True, "stable")
    assert found.window.start_ms == START_MS


def test_nothing_is_final_until_every_partition_has_been_heard_of() -> None:
    fleet = Fleet()
    assert not fleet.take(partial(0, 0), mark(9, 0, partitions=3), mark(9, 1, partitions=3)).verdicts
    assert len(fleet.take(mark(1, 2, partitions=3)).verdicts) == 1


def test_a_partition_that_merely_lags_is_waited_for_however_long() -> None:
    fleet = Fleet()
    assert not fleet.take(partial(0, 0), mark(0, 1), mark(1000, 0)).verdicts


def test_a_mark_that_lies_back_moves_nothing_back() -> None:
    fleet = Fleet()
    fleet.take(partial(0, 0), mark(1, 0), mark(1, 1), mark(0, 0))
    assert fleet.state.marks[0].closed_ms == START_MS + MINUTE_MS
    assert fleet.take(partial(0, 0)).stale == 1
    assert len(fleet.take(partial(1, 0), mark(2, 0), mark(2, 1)).verdicts) == 1


def test_the_newest_partial_of_a_partition_replaces_the_others() -> None:
    fleet = Fleet()
    fleet.take(partial(0, 0, n=200, upto=5), partial(0, 0, n=300, upto=9), partial(0, 0, n=200, upto=5))
    [found] = fleet.take(mark(1, 0), mark(1, 1)).verdicts
    assert found.n == 300


def test_parts_that_were_counted_by_another_baseline_are_left_out_and_told() -> None:
    fleet = Fleet(watching(PLAN, plain(), plain(7, START_MS + MINUTE_MS)))
    other = Partial(
        model="m", version="1", start_ms=START_MS, partition=1, baseline=plain(7).hash, upto=1, vector=b"", itemsize=1
    )
    out = fleet.take(partial(0, 0), other, mark(1, 0), mark(1, 1))
    assert (out.unmatched, [each.n for each in out.verdicts]) == (1, [300])
    gone = msgspec.structs.replace(other, start_ms=START_MS + MINUTE_MS, baseline="?")
    out = fleet.take(gone, mark(2, 0), mark(2, 1))
    assert (out.unmatched, out.verdicts) == (0, [])  # its baseline may come
    patience = WATCH.plan.max_provisional_windows
    out = fleet.take(mark(1 + patience, 0), mark(1 + patience, 1))
    assert (out.unmatched, out.verdicts) == (0, [])
    out = fleet.take(mark(2 + patience, 0), mark(2 + patience, 1))
    assert (out.unmatched, out.verdicts) == (1, [])


# Windows and alerts


def test_a_window_of_too_few_records_is_insufficient_and_changes_no_alert() -> None:
    outcome = by_the_minute(WATCH, rows(0, 0.8), rows(1, 0.8, n=99), rows(2, 0, n=20), rows(3, 0, n=99), rows(4, 0.8))
    found = [outcome.final["m", "1", START_MS + minute * MINUTE_MS] for minute in range(5)]
    assert [each.status for each in found] == ["drift", "insufficient", "insufficient", "insufficient", "drift"]
    assert [each.drift for each in found] == [True, None, None, None, True]
    assert {signal.drift for each in found[1:4] for signal in each.signals.values()} == {None}
    assert states(outcome.judged.alerts) == [("x", "firing", "warning", True), ("x", "firing", "critical", True)]


@pytest.mark.parametrize(
    ("rules", "grow", "detector"),
    [
        ({"psi": {"threshold": 0.1}, "marginal": {"threshold": 1e-300}}, 0.5, "psi"),
        ({"ks": {"threshold": 0.1}, "marginal": {"threshold": 1e-300}}, 0.5, "ks"),
        ({}, 0.8, "marginal"),
    ],
)
def test_what_is_resolved_names_the_detector_that_fired(rules: dict[str, Any], grow: float, detector: str) -> None:
    watch = watching(plan_from({"detectors": {**QUIET, **rules}, "policy": {"resolve_after": 1}}), plain())
    shifts = [0.0, grow, 0.0, 0.0, 0.0, 0.0]
    alerts = by_the_minute(watch, *[rows(minute, shift, n=2_000) for minute, shift in enumerate(shifts)]).judged.alerts
    told = {(alert.state, alert.detector) for alert in alerts if alert.signal == "x"}
    assert told == {("firing", detector), ("resolved", detector)}


def test_a_lasting_drift_fires_becomes_a_page_and_is_resolved_after_three_quiet_windows() -> None:
    shifts = [0, 0.8, 0.8, 0.8, 0, 0, 0, 0]
    outcome = by_the_minute(WATCH, *[rows(minute, shift) for minute, shift in enumerate(shifts)])
    told = [
        (alert.state, alert.severity, (alert.window.start_ms - START_MS) // MINUTE_MS)
        for alert in outcome.judged.alerts
        if alert.signal == "x"
    ]
    assert told == [("firing", "warning", 1), ("firing", "critical", 2), ("resolved", "critical", 6)]
    assert len({alert.fingerprint for alert in outcome.judged.alerts}) == 1
    assert len({alert.id for alert in outcome.judged.alerts}) == 3


def test_a_drift_that_lasts_is_never_taken_for_the_new_normal() -> None:
    outcome = by_the_minute(WATCH, *[rows(minute, 0.8) for minute in range(30)])
    assert {found.status for found in outcome.final.values()} == {"drift"}
    assert [alert.state for alert in outcome.judged.alerts] == ["firing", "firing"]


def test_changes_that_several_partitions_saw_are_one_alert_per_signal() -> None:
    plan = Plan()
    watch = watching(plan, plain())
    profiles = [Profile(PartitionState(partition, 2)) for partition in range(2)]
    for partition, found in enumerate(profiles):
        drifting = [*sample(3000, partition), *sample(2000, 10 + partition, shift=1.5)]
        found.step(batch_of(drifting, START_MS, 0, partition), watch)
        found.step(batch_of(drifting[:1], START_MS + 70_000, 5000, partition), watch)
    fleet = Fleet(watch)
    [window] = fleet.take(*[item for found in profiles for item in found.items]).verdicts
    assert {point.partition for point in window.change_points} == {0, 1}
    [alert] = [each for each in fleet.out.alerts if each.kind == "change_point"]
    assert (alert.signal, alert.state, alert.detector) == ("x", "event", "adwin")
    assert f"{len(window.change_points) - 1} more times" in alert.summary


# Idle partitions

START = (partial(0, 0, 0.8), partial(0, 1, 0.8), mark(1, 0), mark(1, 1))


def test_while_a_partition_is_idle_windows_are_judged_provisionally_and_finally_under_one_id() -> None:
    fleet = Fleet()
    assert not fleet.take(partial(0, 0), mark(1, 0)).verdicts
    [early] = fleet.take(partial(0, 1, n=100, upto=7), mark(0, 1, idle=True)).verdicts
    assert (early.final, early.n) == (False, 400)
    [*_, final] = fleet.take(partial(0, 1), mark(1, 1)).verdicts
    assert (final.final, final.n, final.id) == (True, 600, early.id)
    assert said(fleet.out) == said(undisturbed(partial(0, 0), mark(1, 0), partial(0, 1), mark(1, 1)))


def test_a_provisional_verdict_is_sent_anew_only_when_its_counts_have_changed() -> None:
    fleet = Fleet()
    fleet.take(partial(0, 0), mark(1, 0))
    assert len(fleet.take(mark(0, 1, idle=True), mark(0, 1, idle=True), mark(2, 0)).verdicts) == 1
    assert len(fleet.take(partial(0, 1, n=50, upto=3)).verdicts) == 1


def test_windows_that_a_busy_partition_holds_back_are_not_judged_provisionally() -> None:
    fleet = Fleet()
    out = fleet.take(partial(0, 0), partial(1, 0), mark(1, 0), mark(0, 1, idle=True))
    assert [each.window.start_ms for each in out.verdicts] == [START_MS]


def test_when_all_partitions_are_idle_every_window_is_judged_provisionally() -> None:
    fleet = Fleet()
    out = fleet.take(partial(0, 0), partial(1, 0), mark(0, 0, idle=True), mark(0, 1, idle=True))
    assert [(each.window.start_ms, each.final) for each in out.verdicts] == [
        (START_MS, False),
        (START_MS + MINUTE_MS, False),
    ]


def test_a_provisional_alert_that_holds_is_said_again_as_final_under_the_same_id() -> None:
    fleet = Fleet()
    [early] = fleet.take(partial(0, 0, 0.8), mark(1, 0), mark(0, 1, idle=True)).alerts
    assert states([early]) == [("x", "firing", "warning", False)]
    [final] = fleet.take(partial(0, 1, 0.8), mark(1, 1)).alerts
    assert states([final]) == [("x", "firing", "warning", True)]
    assert final.id == early.id


def test_a_provisional_alert_is_taken_back_when_the_complete_window_does_not_drift() -> None:
    fleet = Fleet()
    fleet.take(partial(0, 0, 0.5, n=100), mark(1, 0), mark(0, 1, idle=True))
    assert fleet.open_alerts() == {"x": "warning"}
    fleet.restart()
    [taken_back] = fleet.take(partial(0, 1, n=2_000), mark(1, 1)).alerts
    assert states([taken_back]) == [("x", "resolved", "warning", False)]
    assert taken_back.summary.endswith("taken back, the complete window does not drift.")
    assert fleet.open_alerts() == {}
    assert fleet.state.models["m", "1"].standings == {}


def test_a_page_for_an_incomplete_window_becomes_the_warning_again_that_it_was() -> None:
    fleet = Fleet()
    fleet.take(*START, partial(1, 0, 0.5, n=100), mark(2, 0), mark(1, 1, idle=True))
    assert fleet.open_alerts() == {"x": "critical"}
    fleet.take(partial(1, 1, n=2_000), mark(2, 1))
    assert fleet.open_alerts() == {"x": "warning"}


def test_an_alert_that_only_incomplete_windows_resolved_is_open_again() -> None:
    fleet = Fleet()
    quiet = [partial(minute, 0) for minute in (1, 2, 3)]
    fleet.take(*START, *quiet, mark(4, 0), mark(1, 1, idle=True))
    assert fleet.open_alerts() == {}
    fleet.take(*[partial(minute, 1, 3.0) for minute in (1, 2, 3)], mark(4, 1))
    assert fleet.open_alerts() == {"x": "critical"}
    lone = Fleet()
    lone.take(*START, *quiet, mark(4, 0), mark(1, 1, idle=True), partial(3, 1, 3.0), mark(4, 1))
    assert lone.open_alerts() == {"x": "warning"}
    assert "x" in {signal for _, signal in lone.state.models["m", "1"].standings}


def test_an_alert_that_a_later_window_bears_out_is_not_taken_back() -> None:
    fleet = Fleet()
    fleet.take(partial(0, 0, 0.5, n=100), partial(1, 0, 0.8), mark(2, 0), mark(0, 1, idle=True))
    assert fleet.open_alerts() == {"x": "critical"}
    fleet.take(partial(0, 1, n=2_000), mark(1, 1, idle=True))
    assert "resolved" not in {alert.state for alert in fleet.out.alerts}
    fleet.take(partial(1, 1, 0.8), mark(2, 1))
    assert fleet.open_alerts() == {"x": "warning"}


def test_provisional_alerts_leave_no_trace_in_what_is_final() -> None:
    calm: list[Item] = [*START, partial(1, 0, 0.8, n=100), mark(2, 0)]
    rest: list[Item] = [partial(1, 1), mark(2, 1), partial(2, 0, 0.8), partial(2, 1, 0.8), mark(3, 0), mark(3, 1)]
    fleet = Fleet()
    fleet.take(*calm, mark(1, 1, idle=True), *rest)
    expected = undisturbed(*calm, *rest)
    assert {key: each.id for key, each in final_verdicts(fleet.out).items()} == {
        key: each.id for key, each in final_verdicts(expected).items()
    }
    assert said(fleet.out)[0] == said(expected)[0]
    assert {alert.id for alert in expected.alerts} <= {alert.id for alert in fleet.out.alerts if alert.final}


def test_a_partition_that_is_idle_for_ever_holds_back_finality_for_so_many_windows_only() -> None:
    plan = plan_from({"max_provisional_windows": 5, "detectors": QUIET})
    fleet = Fleet(watching(plan, plain()))
    fleet.take(mark(0, 1, idle=True))
    for minute in range(8):
        fleet.take(partial(minute, 0), mark(minute + 1, 0))
    final = [key[2] for key in final_verdicts(fleet.out)]
    assert final == [START_MS + minute * MINUTE_MS for minute in range(3)]
    assert fleet.take(partial(0, 1, n=5)).stale == 1


def test_a_partition_that_wakes_up_is_waited_for_again() -> None:
    plan = plan_from({"max_provisional_windows": 2, "detectors": QUIET})
    fleet = Fleet(watching(plan, plain()))
    fleet.take(mark(0, 1, idle=True), partial(0, 0), mark(1, 0), mark(0, 1))
    for minute in range(1, 6):
        fleet.take(partial(minute, 0), mark(minute + 1, 0))
    assert final_verdicts(fleet.out) == {}


def test_a_backlog_is_judged_in_steps_and_comes_to_the_same() -> None:
    """One step over tens of thousands of windows would block a worker until its watchdog ends it."""
    items = [part for minute in range(12) for part in (partial(minute, 0, shift=minute / 6), partial(minute, 1))]
    whole = undisturbed(*items, mark(12, 0), mark(12, 1))
    fleet = Fleet()
    fleet.take(*items, mark(12, 0))
    state, out = fleet.state, Judged()
    sizes = []
    last: list[tuple[int, Item]] = [(state.next_offset, mark(12, 1))]
    while last or verdict.is_due(state, WATCH):
        state, step = verdict.step(state, last, WATCH, most=5)
        last = []
        sizes.append(len(step.verdicts))
        extend(out, step)
    assert sizes == [5, 5, 2]
    assert (out.verdicts, out.alerts) == (whole.verdicts, whole.alerts)


# Late records


def lateness(n: int, late: int, minute: int = 0) -> tuple[Partial, Mark]:
    """A window with so many timely and late records, and what closes it."""
    layout = WATCH.layouts["m", "1"][0]
    vector = layout.zero()
    vector[[N, LATE]] = n, late
    for name in layout.signals:  # like the baseline
        shares = layout.cells(layout.reference, name)
        layout.cells(vector, name)[:] = np.diff(np.cumsum([0, *shares]) * n // shares.sum())
    start_ms = START_MS + minute * MINUTE_MS
    found = Partial(
        model="m", version="1", start_ms=start_ms, partition=0, baseline=plain().hash, upto=minute + 1,
        vector=little_endian(vector), itemsize=vector.itemsize,
    )  # fmt: skip
    return found, mark(minute + 1, 0, 1)


@pytest.mark.parametrize(
    ("n", "late", "status", "alarms"),
    [
        (400, 0, "stable", False),
        (400, 100, "stable", False),  # a fifth is not more than a fifth
        (400, 101, "stable", True),
        (1012, 4988, "stable", True),
        (0, 4000, "insufficient", True),  # too few are timely to judge their values
        (99, 26, "insufficient", True),
        (50, 49, "insufficient", False),  # too few in all
        (0, 0, "insufficient", False),
    ],
)
def test_mass_lateness_is_an_alert_of_the_windows_data_quality(n: int, late: int, status: str, alarms: bool) -> None:  # noqa: FBT001 - a parameter
    out = Fleet().take(*lateness(n, late))
    [found] = out.verdicts
    assert (found.n, found.late, found.status) == (n, late, status)
    assert found.late_share == pytest.approx(late / (n + late) if late else 0.0, abs=1e-6)
    told = [(each.kind, each.signal, each.detector, each.state, each.severity) for each in out.alerts]
    assert told == [("data_quality", "", "late_share", "firing", "warning")] * alarms
    for alert in out.alerts:
        assert (alert.value, alert.threshold, alert.n) == (found.late_share, 0.2, n)
        assert f"({late} of {n + late})" in alert.summary
        assert "clocks" in alert.summary
        assert "plan.lateness_ms" in alert.summary


def test_lateness_escalates_and_is_resolved_like_any_other_alert() -> None:
    fleet = Fleet()
    for minute, late in enumerate([4000, 4000, 0, 0, 0]):
        fleet.take(*lateness(300, late, minute))
    told = [(each.state, each.severity, each.detector) for each in fleet.out.alerts]
    assert told == [
        ("firing", "warning", "late_share"),
        ("firing", "critical", "late_share"),
        ("resolved", "critical", "late_share"),
    ]
    assert fleet.out.alerts[-1].summary == "m 1: few of its records were late in 3 windows in a row."
    assert len({each.fingerprint for each in fleet.out.alerts}) == 1


def test_a_window_of_few_records_says_nothing_of_an_open_alert_on_lateness() -> None:
    fleet = Fleet()
    fleet.take(*lateness(0, 4000, 0))
    for minute in range(1, 6):
        fleet.take(*lateness(10, 0, minute))
    assert [each.state for each in fleet.out.alerts] == ["firing"]


def test_lateness_keeps_no_alert_on_outliers_open() -> None:
    standing = Standing((True,), "warning")
    fleet = Fleet()
    fleet.state.models["m", "1"] = ModelState(("m", "1"), standings={("outlier", ""): standing})
    for minute in range(3):
        fleet.take(*lateness(300, 4000, minute))
    assert {each.kind for each in fleet.out.alerts if each.state == "resolved"} == {"outlier"}


def test_the_plan_decides_what_is_too_late() -> None:
    for rule, alarms in (({"threshold": 0.9}, 0), ({"enabled": False}, 0), ({"threshold": 0.5}, 1)):
        plan = plan_from({"detectors": {**QUIET, "late_share": rule}})
        assert len(Fleet(watching(plan, plain())).take(*lateness(300, 400)).alerts) == alarms
