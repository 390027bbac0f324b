"""What must not matter: how the log was cut, redelivered, interleaved, spread, and where a worker stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from random import Random  # noqa: TC003 - Hypothesis reads the annotation
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.snapshots import profile_snapshot, verdict_snapshot
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.formats import wire
from tests.logs import (
    MINUTE_MS,
    SENSITIVE,
    START_MS,
    Profile,
    Shape,
    baselines,
    churn,
    cut,
    extend,
    final_verdicts,
    in_turn,
    judge,
    prediction_log,
    profile,
    run,
    said,
    spread,
    watching,
)

if TYPE_CHECKING:
    from driftline.detectors.layout.watch import Watch
    from driftline.detectors.verdicts.decide import Verdict
    from tests.logs import Record

SEEDS = st.integers(1, 4)
CUTS = st.lists(st.one_of(st.integers(1, 5), st.integers(1, 400)), min_size=1, max_size=5)
EXAMPLES = settings(max_examples=12, deadline=None)
PARTITIONS = 3

ROUGH = Shape(n=600, stragglers=0.03, rubbish=0.05)
SHAPES = {
    1: ROUGH,
    2: replace(ROUGH, fast=0.1, flushes=0.005),
    3: replace(ROUGH, fast=0.2, by_broker=0.5, flushes=0.005),
    4: replace(ROUGH, fast=0.2, by_broker=0.0, flushes=0.01),
}
"""A seed's log: orderly clocks; fast ones; a topic whose setting keeps changing; one without the broker's time."""

Items = list[Partial | Mark]


@cache
def watch() -> Watch:
    """Two models of one baseline each, and one whose baseline changes in mid-log, in the middle of disorder."""
    plan = msgspec.structs.replace(SENSITIVE, max_open_windows=8)
    return watching(plan, *baselines(), churn("1", seed=9, effective_from_ms=START_MS + 4 * MINUTE_MS))


@cache
def records(seed: int) -> list[Record]:
    """One partition with stragglers, rubbish and maybe wrong clocks."""
    [laid] = spread(prediction_log(seed, SHAPES[seed]), 1)
    return laid


@cache
def undisturbed(seed: int) -> Profile:
    """What stage 1 makes of it in one go."""
    return profile(records(seed), 0, 1, [600], watch())


def sent(found: Profile) -> tuple[dict[str, list[bytes]], list[bytes], list[tuple[int, str]]]:
    """All outputs as they are written: each model version's partials in order, the others in an order of their own."""
    partials: dict[str, list[bytes]] = {}
    for item in found.items:
        if isinstance(item, Partial):
            partials.setdefault(f"{item.model}|{item.version}", []).append(wire.partial_record(item).value)
    return partials, sorted(map(wire.document, found.events)), sorted(found.rejected)


def saved(state: PartitionState) -> dict[bytes, bytes]:
    """The whole state as it is written."""
    for cell in state.cells.values():
        cell.is_dirty = True
    return dict(profile_snapshot.dump(state, watch()))


def closed(items: Items) -> set[tuple[int, int]]:
    """How far each partition came."""
    return {(item.partition, item.closed_ms) for item in items if isinstance(item, Mark)}


def test_the_logs_of_these_laws_have_something_of_everything() -> None:
    found = [undisturbed(seed) for seed in range(1, 5)]
    outcomes = [judge(each.items, watch())[1] for each in found]
    assert {event.kind for each in found for event in each.events} == {"data_quality", "outlier"}
    assert {alert.kind for each in outcomes for alert in each.alerts} >= {"drift", "change_point", "data_quality"}
    assert {alert.state for each in outcomes for alert in each.alerts} == {"firing", "resolved", "event"}
    assert all(each.tally["late"] > 0 and each.tally["rejected"] > 0 for each in found)
    assert [each.tally["flushes"] > 0 for each in found] == [False, True, True, True]
    assert [each.state.recent_ms.size for each in found] == [0, 0, 32, 32]
    assert all("ahead" in {reason for _, reason in each.rejected} for each in found[2:])
    assert len({verdict.baseline for each in outcomes for verdict in each.verdicts}) == 4


@EXAMPLES
@given(seed=SEEDS, sizes=CUTS)
def test_the_cut_of_a_log_into_batches_changes_no_output_and_no_state(seed: int, sizes: list[int]) -> None:
    whole, parts = undisturbed(seed), profile(records(seed), 0, 1, sizes, watch())
    assert sent(parts) == sent(whole)
    assert parts.tally == whole.tally
    assert saved(parts.state) == saved(whole.state)
    assert max(closed(parts.items)) == max(closed(whole.items))
    assert said(judge(parts.items, watch())[1]) == said(judge(whole.items, watch())[1])


@EXAMPLES
@given(seed=SEEDS, sizes=CUTS, back=st.lists(st.integers(0, 300), min_size=1, max_size=4))
def test_batches_that_overlap_change_nothing(seed: int, sizes: list[int], back: list[int]) -> None:
    found = Profile(PartitionState(0, 1))
    log, start, turn = records(seed), 0, 0
    while start < len(log):
        stop = start + sizes[turn % len(sizes)]
        found.take(log[max(0, start - back[turn % len(back)]) : stop], watch())
        start, turn = stop, turn + 1
    assert sent(found) == sent(undisturbed(seed))
    assert saved(found.state) == saved(undisturbed(seed).state)
    assert found.tally["read"] == found.tally["skipped"] + sum(
        found.tally[each] for each in ("accepted", "late", "rejected", "flushes")
    )


@EXAMPLES
@given(seed=SEEDS, sizes=CUTS, stops=st.sets(st.integers(0, 40), min_size=1))
def test_a_restart_from_saved_state_changes_nothing(seed: int, sizes: list[int], stops: set[int]) -> None:
    found, store = Profile(PartitionState(0, 1)), dict[bytes, bytes]()
    for number, batch in enumerate(cut(records(seed), sizes)):
        found.take(batch, watch())
        store.update(profile_snapshot.dump(found.state, watch()))
        if number in stops:
            found.state, damaged = profile_snapshot.load(0, 1, store, watch())
            assert not damaged
    assert sent(found) == sent(undisturbed(seed))
    assert saved(found.state) == saved(undisturbed(seed).state)


@EXAMPLES
@given(seed=SEEDS, sizes=CUTS, torn=st.dictionaries(st.integers(0, 30), st.integers(0, 3), min_size=1))
def test_a_crash_between_two_writes_of_a_snapshot_loses_nothing_and_counts_nothing_twice(
    seed: int, sizes: list[int], torn: dict[int, int]
) -> None:
    found, store, log = Profile(PartitionState(0, 1)), dict[bytes, bytes](), records(seed)
    turn = 0
    while rest := [record for record in log if record.offset >= found.state.next_offset]:
        found.take(rest[: sizes[turn % len(sizes)]], watch())
        written = list(profile_snapshot.dump(found.state, watch()))
        if turn in torn:
            store.update(written[: torn[turn]])
            found.state, damaged = profile_snapshot.load(0, 1, store, watch())
            assert not damaged
        else:
            store.update(written)
        turn += 1
    assert said(judge(found.items, watch())[1]) == said(judge(undisturbed(seed).items, watch())[1])
    assert {event.id for event in found.events} == {event.id for event in undisturbed(seed).events}
    assert saved(found.state) == saved(undisturbed(seed).state)


@cache
def partitioned(seed: int) -> list[Items]:
    """What stage 1 sends from each of several partitions."""
    laid = spread(prediction_log(seed, replace(SHAPES[seed], n=900)), PARTITIONS)
    return [profile(each, place, PARTITIONS, [50], watch()).items for place, each in enumerate(laid)]


def per_model(judged: Judged) -> tuple[object, dict[tuple[str, str], list[bytes]]]:
    """Final verdicts, and each model's alerts in the order in which they were sent."""
    alerts: dict[tuple[str, str], list[bytes]] = {}
    for alert in judged.alerts:
        alerts.setdefault((alert.model, alert.version), []).append(wire.document(alert))
    return said(judged)[0], alerts


@EXAMPLES
@given(seed=SEEDS, at_once=st.integers(1, 50), pick=st.randoms(use_true_random=False))
def test_any_interleaving_of_the_partitions_gives_the_same_verdicts_and_alerts(
    seed: int, at_once: int, pick: Random
) -> None:
    lists = partitioned(seed)
    labels = [place for place, items in enumerate(lists) for _ in items]
    pick.shuffle(labels)
    rest = [iter(items) for items in lists]
    mixed = [next(rest[label]) for label in labels]
    state, out = judge(mixed, watch(), at_once)
    assert per_model(out) == per_model(judge(in_turn(lists), watch())[1])
    assert (out.stale, out.unmatched) == (0, 0)
    assert state.final_ms == min(max(item.closed_ms for item in items if isinstance(item, Mark)) for items in lists)


@EXAMPLES
@given(seed=SEEDS, rewinds=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 60)), min_size=1, max_size=4))
def test_partials_and_marks_that_are_sent_again_change_nothing(seed: int, rewinds: list[tuple[int, int]]) -> None:
    once = in_turn(partitioned(seed))
    repeated: Items = []
    for place, item in enumerate(once):
        repeated.append(item)
        for at, back in rewinds:
            if at == place:
                repeated += once[max(0, place + 1 - back) : place + 1]
    assert len(repeated) > len(once) or all(at >= len(once) for at, _ in rewinds)
    assert per_model(judge(repeated, watch())[1]) == per_model(judge(once, watch())[1])


@EXAMPLES
@given(seed=SEEDS, at_once=st.integers(1, 20), torn=st.dictionaries(st.integers(0, 30), st.integers(0, 4), min_size=1))
def test_the_other_stage_goes_on_from_torn_snapshots_too(seed: int, at_once: int, torn: dict[int, int]) -> None:
    items = list(enumerate(in_turn(partitioned(seed))))
    state, out, store, turn = FleetState(0), Judged(), dict[bytes, bytes](), 0
    while state.next_offset < len(items):
        state, step = verdict.step(state, items[state.next_offset : state.next_offset + at_once], watch())
        extend(out, step)
        written = list(verdict_snapshot.dump(state, watch()))
        store.update(written[: torn.get(turn, len(written))])
        if turn in torn:
            state, damaged = verdict_snapshot.load(0, store)
            assert not damaged
        turn += 1
    expected = judge([item for _, item in items], watch())[1]
    assert {wire.document(each) for each in out.verdicts} == {wire.document(each) for each in expected.verdicts}
    assert {wire.document(each) for each in out.alerts} == {wire.document(each) for each in expected.alerts}


def counted(found: Verdict) -> tuple[object, ...]:
    """All that is counted without regard to order."""
    cells = {
        name: (signal.counts, signal.missing, signal.nonfinite, signal.other, signal.unseen, signal.p_value)
        for name, signal in found.signals.items()
    }
    return found.n, found.late, cells, found.violations, found.outliers.scored


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(1, 1000), partitions=st.integers(2, 5))
def test_the_number_of_partitions_does_not_change_what_is_counted(seed: int, partitions: int) -> None:
    log = prediction_log(seed, Shape(n=600))
    known = watching(SENSITIVE, *baselines())
    one, several = run(log, known).final, run(log, known, partitions).final
    common = one.keys() & several.keys()
    assert len(common) >= 24
    assert {key: counted(one[key]) for key in common} == {key: counted(several[key]) for key in common}


def test_partitions_without_a_model_do_not_hold_its_windows_back() -> None:
    log = prediction_log(1, Shape(n=600))
    [everything] = spread(log, 1)
    laid = [everything, [each for each in everything if each.value and b'"fraud"' in each.value]]
    found = [profile(each, place, 2, [100], watch()) for place, each in enumerate(laid)]
    final = final_verdicts(judge(in_turn([each.items for each in found]), watch())[1])
    assert {key[:2] for key in final} == {("churn", "1"), ("churn", "2"), ("fraud", "1")}
