"""When windows are final, against a brute-force search over the logs; however the facts arrive."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.documents.predictions import Batch
from driftline.detectors.layout.vector_layout import N
from driftline.detectors.plan import plan_from
from driftline.detectors.snapshots import profile_snapshot, verdict_snapshot
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.verdicts import verdict
from driftline.detectors.verdicts.fleet import FleetState, Judged
from driftline.detectors.windows import profiling
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.formats import wire
from tests.logs import extend, final_verdicts, plain, prediction, watching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from driftline.detectors.windows.ingest import Profiled

WINDOW_MS, LATENESS_MS, IDLE_MS = 60_000, 10_000, 30_000
START_MS = 1_700_000_040_000
COLOURS = ("red", "green", "blue", "violet")
"""One for each partition: the counts of a verdict say whose records it has. The baseline knows no violet."""

QUIET = {name: {"enabled": False} for name in ("adwin", "adwin_scale", "half_space_trees", "outlier_rate")}
STANDS = 3
"""After so many windows of append time in which it closed none, a partition holds back the others no more."""
PLAN = plan_from({"min_rows": 1, "max_provisional_windows": STANDS, "detectors": QUIET})
WATCH, NO_BASELINE = watching(PLAN, plain()), watching(PLAN)


class Event(NamedTuple):
    """A record of model m: when it happened, and when it was appended."""

    event_ms: int
    appended_ms: int


Logs = list[list[Event]]
LEVELS = plain().signals["colour"].levels  # type: ignore[union-attr]


def at(event_s: float, appended_s: float | None = None) -> Event:
    """Seconds after the start; appended as it happened, unless told otherwise."""
    appended_s = event_s if appended_s is None else appended_s
    return Event(START_MS + int(1000 * event_s), START_MS + int(1000 * appended_s))


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the draws are meant to be repeatable


# The oracle: it looks every question up in the logs again.


@dataclass
class History:
    """One partition: (append time, window, late) of its records, closings, and when it counts as idle."""

    counted: list[tuple[int, int, bool]] = field(default_factory=list)
    closings: list[tuple[int, int, int]] = field(default_factory=list)
    idle: list[tuple[int, int]] = field(default_factory=list)

    def has_closed(self, end_ms: int, moment_ms: int) -> bool:
        return any(closed_ms >= end_ms and appended_ms <= moment_ms for appended_ms, closed_ms, _ in self.closings)

    def shows_others_idle(self, end_ms: int, moment_ms: int) -> bool:
        """Whether it has closed a window in a run of records that had lasted long enough by then."""
        return any(
            closed_ms >= end_ms and appended_ms <= moment_ms and since_ms + IDLE_MS <= moment_ms
            for appended_ms, closed_ms, since_ms in self.closings
        )

    def is_idle(self, moment_ms: int) -> bool:
        return any(since <= moment_ms < until for since, until in self.idle)

    def rows(self, start_ms: int, moment_ms: int) -> tuple[int, int]:
        """Timely and late records of a window, of those appended up to a moment."""
        own = [late for appended_ms, start, late in self.counted if start == start_ms and appended_ms <= moment_ms]
        return len(own) - sum(own), sum(own)


def history(log: Sequence[Event], known_ms: int) -> History:
    found, highest_ms, closed_ms, clock_ms, quiet, since_ms = History(), -1, 0, NO_TIME, 0, NO_TIME
    passed: list[int] = []  # the windows of append time in which records came, since the last closing
    for event_ms, appended_ms in log:
        if appended_ms > (idle_ms := idle_from(clock_ms, quiet, passed)):
            found.idle.append((idle_ms, appended_ms))
            quiet += 1
        if appended_ms - clock_ms > IDLE_MS:
            since_ms = appended_ms
        clock_ms = max(clock_ms, appended_ms)
        passed += [clock_ms // WINDOW_MS] if clock_ms // WINDOW_MS not in passed else []
        start_ms = event_ms // WINDOW_MS * WINDOW_MS
        is_late = start_ms + WINDOW_MS <= highest_ms - LATENESS_MS
        found.counted.append((clock_ms, highest_ms // WINDOW_MS * WINDOW_MS if is_late else start_ms, is_late))
        highest_ms = max(highest_ms, event_ms)
        if (now_ms := max(0, highest_ms - LATENESS_MS) // WINDOW_MS * WINDOW_MS) > closed_ms:
            closed_ms, quiet, passed = now_ms, 0, [clock_ms // WINDOW_MS]
            found.closings.append((clock_ms, closed_ms, since_ms))
    found.idle.append((idle_from(clock_ms, quiet, passed), known_ms + 1))
    return found


def idle_from(clock_ms: int, quiet: int, passed: Sequence[int]) -> int:
    """When a partition counts as idle, if nothing follows: after a silence, or where it stands at its window's end."""
    silent_ms = clock_ms + (IDLE_MS << max(0, quiet - 7))
    if len(passed) <= STANDS:
        return silent_ms
    return min(silent_ms, (clock_ms // WINDOW_MS + 1) * WINDOW_MS - 1)


def wanted(logs: Logs) -> dict[int, tuple[list[int], int]]:
    """By window start: records of each partition, late ones of all, in windows that are final by the end of the logs."""
    known_ms = max((each.appended_ms for log in logs for each in log), default=0) + IDLE_MS
    found = [history(log, known_ms) for log in logs]
    moments = sorted(
        {appended + wait for log in logs for _, appended in log for k in range(9) for wait in (0, IDLE_MS * 2**k)}
        | {(appended // WINDOW_MS + 1) * WINDOW_MS - 1 for log in logs for _, appended in log}
    )
    verdicts = {}
    for start_ms in sorted({start for each in found for _, start, _ in each.counted}):
        end_ms = start_ms + WINDOW_MS
        for moment_ms in moments:
            closed = [each.has_closed(end_ms, moment_ms) for each in found]
            is_shown = any(each.shows_others_idle(end_ms, moment_ms) for each in found)
            if any(closed) and all(
                is_closed or (is_shown and each.is_idle(moment_ms))
                for is_closed, each in zip(closed, found, strict=True)
            ):
                rows = [each.rows(start_ms, moment_ms) for each in found]
                if any(map(sum, rows)):
                    verdicts[start_ms] = [timely for timely, _ in rows], sum(late for _, late in rows)
                break
    return verdicts


# What the two stages make of it.


def batch(log: Sequence[Event], start: int, stop: int, partition: int, *, by_broker: bool = True) -> Batch:
    some, n = log[start:stop], stop - start
    predictions = [prediction({"x": 0.1, "y": 0.2, "colour": COLOURS[partition]}) for _ in some]
    times = np.array(some, np.int64).reshape(n, 2)
    return Batch(
        "predictions", partition, np.arange(start, stop), times[:, 0].copy(), times[:, 1].copy(),
        np.full(n, by_broker), predictions, stop,
    )  # fmt: skip


def sent(found: Profiled) -> list[Partial | Mark]:
    return [*found.partials, *([] if found.mark is None else found.mark.parts())]


def idle_through(state: PartitionState, through_ms: int) -> list[Partial | Mark]:
    """What a worker says of an idle partition."""
    plan = WATCH.plan
    return [*sent(profiling.provisional(state)), *sent(profiling.idle_through(state, through_ms, plan))]


def told(logs: Logs, partition: int, rng: Random, *, by_broker: bool = True) -> list[Partial | Mark]:
    """All that is sent of a partition: cut anywhere, with crashes, and with claims wherever they are true."""
    log, last_ms = logs[partition], max((each.appended_ms for log in logs for each in log), default=NO_TIME)
    known_ms = last_ms + IDLE_MS if by_broker else NO_TIME
    state, items, saved = PartitionState(partition, len(logs)), list[Partial | Mark](), dict[bytes, bytes]()
    while state.next_offset < len(log) or rng.random() < 0.3:
        start = state.next_offset
        stop = min(len(log), start + rng.randint(1, 1 + len(log) // 3))
        state, out = profiling.step(state, batch(log, start, stop, partition, by_broker=by_broker), WATCH)
        items += sent(out)
        through_ms = min(known_ms, log[stop].appended_ms - 1 if stop < len(log) else known_ms)
        if rng.random() < 0.3 and through_ms > state.clock.appended_ms:
            items += idle_through(state, rng.randint(state.clock.appended_ms, through_ms))
        if rng.random() < 0.3:
            written = list(profile_snapshot.dump(state, WATCH))
            landed = rng.randint(0, len(written))
            saved.update(written[:landed])
            if landed < len(written) or rng.random() < 0.3:
                state, damaged = profile_snapshot.load(partition, len(logs), saved, WATCH)
                assert not damaged
    return [*items, *idle_through(state, known_ms)]


def merged(lists: Sequence[Sequence[Partial | Mark]], rng: Random) -> Iterator[Partial | Mark]:
    rest = [list(items) for items in lists]
    while left := [items for items in rest if items]:
        items = rng.choice(left)
        for _ in range(rng.randint(1, len(items))):
            yield items.pop(0)


def judged(items: Sequence[Partial | Mark], rng: Random) -> Judged:
    """The other stage over all of it, in steps of any size, with crashes; windows that are final may have to wait."""
    state, out, saved = FleetState(0), Judged(), dict[bytes, bytes]()
    seen: set[bytes] = set()
    offered, published = list(enumerate(items)), rng.choice([0, rng.randint(0, len(items))])
    while state.next_offset < len(items) or verdict.is_due(state, WATCH):
        watch = WATCH if state.next_offset >= published else NO_BASELINE
        most = rng.choice([1, 2, len(items)])
        state, step = verdict.step(state, offered[state.next_offset :][: rng.randint(1, 9)], watch, most)
        again = [each for each in step.verdicts if each.final and wire.document(each) in seen]
        step.verdicts = [each for each in step.verdicts if each.final and each not in again]
        seen.update(wire.document(each) for each in step.verdicts)
        extend(out, step)
        if rng.random() < 0.3:
            written = list(verdict_snapshot.dump(state, WATCH))
            landed = rng.randint(0, len(written))
            saved.update(written[:landed])
            if landed < len(written) or rng.random() < 0.3:
                state, damaged = verdict_snapshot.load(0, saved)
                assert not damaged
    return out


def outcome(logs: Logs, seed: int, *, by_broker: bool = True) -> dict[int, tuple[list[int], int]]:
    """Like ``wanted``; every final verdict was said once, or again to the byte."""
    rng = dice(seed)
    items = list(merged([told(logs, place, rng, by_broker=by_broker) for place in range(len(logs))], rng))
    found = {}
    for (_, _, start_ms), each in final_verdicts(judged(items, rng)).items():
        colour = each.signals["colour"]
        rows = [*(colour.counts[LEVELS.index(name)] for name in COLOURS[:3]), colour.unseen]
        found[start_ms] = rows[: len(logs)], each.late
    return found


STEPS_S = ((1, 5), (5, 20, 31), (29, 30, 31), (1, 2, 200), (31, 45, 70))
"""Times between two records of a partition, around the silence that counts and far from it."""


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    """One to four partitions that are quiet at times, or always; event times in disorder, far behind, or at a stand."""
    rng, found = dice(draw(st.integers(0, 10**6))), Logs()
    for _ in range(rng.choice([1, 2, 2, 3, 4])):
        log, appended_s, behind_s, steps_s = (
            list[Event](),
            rng.randint(0, 60),
            rng.choice([0, 0, 70]),
            rng.choice(STEPS_S),
        )
        stands_s, ends_s = rng.choice([30, 90, 10**6, 10**6]), rng.choice([300, 600])
        while rng.random() < 0.98 and appended_s < ends_s:
            log.append(at(min(appended_s - behind_s, stands_s) - rng.randint(0, 12), appended_s))
            appended_s += rng.choice(steps_s)
        found.append(log if rng.random() < 0.85 else [])
    return found


@settings(max_examples=150, deadline=None)
@given(logs=logs(), seed=st.integers(0, 10**6))
def test_what_is_final_and_what_it_holds_is_a_function_of_the_logs(logs: Logs, seed: int) -> None:
    assert outcome(logs, seed) == wanted(logs)


# How long a partition that is not used, or no more, delays the others.

UNTIL_S = 600


def busy(until_s: int = UNTIL_S) -> list[Event]:
    return [at(second) for second in range(0, until_s, 5)]


def final_ends_s(logs: Logs, seed: int = 1, *, by_broker: bool = True) -> list[int]:
    """Seconds after the start at which the final windows end."""
    return [(start_ms + WINDOW_MS - START_MS) // 1000 for start_ms in outcome(logs, seed, by_broker=by_broker)]


def until(logs: Logs, second: int) -> Logs:
    """The logs as they were at a moment."""
    return [[each for each in log if each.appended_ms < START_MS + 1000 * second] for log in logs]


@settings(max_examples=20, deadline=None)
@given(second=st.integers(0, UNTIL_S), empty=st.integers(0, 3))
def test_a_partition_that_never_held_a_record_delays_nothing(second: int, empty: int) -> None:
    logs = [[] if place == empty else until([busy()], second)[0] for place in range(4)]
    assert final_ends_s(logs) == final_ends_s([log for log in logs if log])


@settings(max_examples=20, deadline=None)
@given(second=st.integers(0, UNTIL_S), stops=st.integers(0, UNTIL_S))
def test_a_partition_that_falls_silent_delays_the_others_by_less_than_a_window(second: int, stops: int) -> None:
    logs = until([busy(), busy(stops), busy(), busy(stops)], second)
    last_s = max((second - 1) // 5 * 5, 0)  # when the last record came
    undelayed = [end for end in range(0, second, 60) if end + LATENESS_MS // 1000 + IDLE_MS // 1000 <= last_s]
    assert set(undelayed) - {0} <= set(final_ends_s(logs))


def standing(every_s: int, until_s: int = UNTIL_S) -> list[Event]:
    """A partition whose records bear the same time from 100 s on."""
    return [*busy(100), *(at(100, second) for second in range(100, until_s, every_s))]


@pytest.mark.parametrize("every_s", [1, 5])
def test_a_partition_whose_records_go_on_to_bear_an_old_time_delays_the_others_by_so_many_windows(every_s: int) -> None:
    """It closes [0, 60) at 70 s; records pass into the windows of append time from 120, 180 and 240 s on."""
    logs = [busy(), standing(every_s), busy()]
    found = outcome(logs, 1)
    assert found == wanted(logs)
    assert len(found) == len(final_ends_s([busy()])) == 9
    # [60, 120) holds what was appended to it before 300 s, the end of the window in which it was found to stand.
    assert found[START_MS + WINDOW_MS][0] == [12, 8 + len(range(100, 300, every_s)), 12]


def test_it_need_not_be_busy() -> None:
    """After eight silences a longer one is required, which never comes."""
    logs = [busy(3000), standing(40, 3000)]
    assert final_ends_s(logs) == final_ends_s(logs[:1])


def test_records_of_a_partition_that_stands_are_counted_as_missed_once_it_gave_way() -> None:
    rng = dice(1)
    items = [*told([busy(), standing(5)], 0, rng), *told([busy(), standing(5)], 1, rng)]
    _, out = verdict.step(FleetState(0), list(enumerate(items)), WATCH)
    assert out.missed == len(range(300, UNTIL_S, 5))


def test_a_partition_that_goes_on_after_it_stood_is_waited_for_again() -> None:
    """It comes back 200 s behind, and gives all of [300, 360), 200 s after the others had closed it."""
    back = [*standing(5, 400), *(at(second - 200, second) for second in range(400, UNTIL_S, 5))]
    assert outcome([busy(), back], 1)[START_MS + 5 * WINDOW_MS] == ([12, 12], 0)


def test_all_records_under_one_key_are_judged_finally() -> None:
    assert final_ends_s([[], busy(), [], []]) == final_ends_s([busy()])


def test_a_file_that_is_published_after_a_silence_is_judged_whole() -> None:
    """Its records reach one partition after the other, and nobody was idle only because nobody had sent anything."""
    first = [at(second, 5000 + second / 1000) for second in range(0, UNTIL_S, 5)]
    others = [[at(second, 5001 + place + second / 1000) for second in range(0, UNTIL_S, 5)] for place in range(2)]
    live = [at(second) for second in range(5003, 5200, 5)]
    before = [[at(-9000 + place)] for place in range(2)]
    found = outcome([[*before[0], *first, *live], [*before[1], *others[0]], others[1]], 1)
    counts = [sum(found[START_MS + each * WINDOW_MS][0]) for each in range(UNTIL_S // 60)]
    assert counts == [36] * (UNTIL_S // 60)


@pytest.mark.parametrize("before", [[], [at(0, 0)]], ids=["new", "silent"])
@pytest.mark.parametrize("apart_s", [0.001, 3, 9])
def test_a_backlog_that_is_written_at_once_loses_nothing(before: list[Event], apart_s: float) -> None:
    """Years of event time lie in one partition a moment before the first record lies in the next."""
    logs = [[*before, *(at(90 * day, 50_000 + place * apart_s) for day in range(place, 400, 4))] for place in range(4)]
    found = outcome(logs, 1)
    assert found == wanted(logs)
    counted = sum(sum(rows) + late for rows, late in found.values())
    assert counted >= sum(map(len, logs)) - 8  # the last windows are open yet


def test_under_create_time_nothing_is_inferred_from_silence() -> None:
    logs = [busy(), busy(200), busy()]
    assert len(final_ends_s(logs)) == 9
    last_s = (
        480 - 60 * STANDS
    )  # an idle partition is taken along at this distance. 595 s less 15 records and the lateness: the window that the foremost closed last
    assert final_ends_s(logs, by_broker=False) == list(range(60, last_s + 1, 60))
    assert final_ends_s([busy(), []], by_broker=False) == list(range(60, last_s + 1, 60))


def test_what_a_partition_adds_after_it_was_idle_comes_too_late() -> None:
    [*quiet], woken = busy(40), [at(20, 300), *(at(second) for second in range(300, 400, 5))]
    found = outcome([busy(), [*quiet, *woken]], 1)
    assert found[START_MS] == ([12, 8], 0)
    assert found[START_MS + 5 * WINDOW_MS] == ([12, 12], 0)


def test_records_that_no_verdict_holds_are_counted_once() -> None:
    quiet, woken = busy(40), [at(20, 300), at(21, 301), at(22, 340), *(at(second) for second in range(340, 400, 5))]
    logs = [busy(), [*quiet, *woken]]
    rng = dice(1)
    for order in (0, 1):
        lists = [told(logs, place, rng) for place in (order, 1 - order)]
        _, out = verdict.step(FleetState(0), list(enumerate([*lists[0], *lists[1]])), WATCH)
        assert out.missed == 3


@pytest.mark.parametrize(("every_s", "silences"), [(20, 2), (40, 34), (200, 34)])
@pytest.mark.parametrize("is_down", [False, True])
def test_what_is_kept_for_a_moment_is_bounded_by_the_log_not_by_how_often_a_clock_saw_a_silence(
    every_s: int, silences: int, *, is_down: bool
) -> None:
    """Event time stands still, so the window stays open, and a worker takes the partition for idle after each record.

    While another partition's worker is down, what a partition that stands has counted is kept once a window, like that
    of any other partition.
    """
    log = [at(1, every_s * place) for place in range(400)]
    state, fleet = PartitionState(0, 2), FleetState(0)
    stands = max(0, 400 * every_s // 60 - STANDS) if is_down else 0
    for place, record in enumerate(log):
        state, out = profiling.step(state, batch(log, place, place + 1, 0), WATCH)
        items = [*sent(out), *idle_through(state, record.appended_ms + 1)]
        if not is_down:
            items += idle_through(PartitionState(1, 2), record.appended_ms)
        fleet, _ = verdict.step(fleet, list(enumerate(items, fleet.next_offset)), WATCH)
        [kept] = [*fleet.models["m", "1"].earlier.partials.values()] or [[]]
        assert len(kept) <= (silences + stands if is_down else 2)
    [[newest]] = [parts.values() for parts in fleet.models["m", "1"].windows.values()]
    assert newest.counts()[N] == 400


# Controls.


def test_a_partition_that_lags_or_is_down_is_waited_for() -> None:
    logs = [busy(), busy()]
    rng = dice(1)
    lagging = PartitionState(1, 2)
    lagging, out = profiling.step(lagging, batch(logs[1], 0, 3, 1), WATCH)
    first, second = told(logs, 0, rng), [*sent(out), *sent(profiling.provisional(lagging))]
    assert final_verdicts(judged([*first, *second], rng)) == {}
    # Were it said to be idle though records wait, windows would be final without them.
    lie = idle_through(lagging, logs[0][-1].appended_ms)
    assert len(final_verdicts(judged([*first, *lie], rng))) == 9


@pytest.mark.parametrize("stands", [False, True])
def test_a_worker_that_is_down_for_longer_than_a_partition_may_stand_is_waited_for(*, stands: bool) -> None:
    """That event time stands is said by the partition's own log, read up to there; that others went on says nothing."""
    log = standing(5) if stands else busy()
    before = until([log], 240)[0]  # one record more, and it would be found to stand
    rng = dice(1)
    state, out = profiling.step(PartitionState(1, 2), batch(before, 0, len(before), 1), WATCH)
    items = [*sent(out), *sent(profiling.provisional(state))]
    found = final_verdicts(judged([*told([busy(), []], 0, rng), *items], rng))
    assert max(start_ms for _, _, start_ms in found) + WINDOW_MS - START_MS == (60_000 if stands else 180_000)
    rest, out = profiling.step(state, batch(log, len(before), len(log), 1), WATCH)
    items += [*sent(out), *idle_through(rest, START_MS + 1000 * UNTIL_S)]
    assert len(final_verdicts(judged([*told([busy(), []], 0, rng), *items], rng))) == 9


def test_a_false_word_on_silence_shows() -> None:
    logs = [busy(), busy()]
    rng = dice(1)
    lagging, _ = profiling.step(PartitionState(1, 2), batch(logs[1], 0, 3, 1), WATCH)
    items = [*told(logs, 0, rng), *idle_through(lagging, logs[0][-1].appended_ms), *told(logs, 1, rng)]
    found = final_verdicts(judged(items, rng))
    assert found[("m", "1", START_MS)].n < sum(wanted(logs)[START_MS][0])
