"""When a window is final: a function of the predictions' logs alone, whatever the clocks and the order of the marks.

A window is final at the smallest append time A at which

- at least one partition has closed it by records that were appended up to A, and
- every other partition has closed it too, or is idle at A: no record was appended to it in the ``idle_after_ms`` up to
  A, or its event time stands and A lies between its last record of a window of append time and the record that follows;
  while one of those that have closed it was not silent itself.

A partition that has closed the window gives its complete part. An idle one gives its records that were appended up to
A; what it adds later comes too late. Marks carry the facts that this takes: at which append time a partition closed
what, and from when to when it was idle. A partition whose mark says nothing of A is waited for.

Silence while nobody sends tells nothing: a file that is published after a quiet night closes hours of windows in one
partition a moment before its first record reaches the next.

A window's moment never lies before that of an earlier window, so finality is one moving bound.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from operator import attrgetter, itemgetter
from typing import NamedTuple

import msgspec

from driftline.detectors.documents.partials import Closed, Mark
from driftline.detectors.tumbling import NO_TIME

EVER = 1 << 62
"""An append time after all others."""


class Moment(NamedTuple):
    """When windows became final.

    Parameters
    ----------
    end_ms
        The windows that end at or before this, and after the moment before.
    appended_ms
        The append time A up to which records count.
    """

    end_ms: int
    appended_ms: int


def merged(known: Mark | None, mark: Mark) -> Mark:
    """A partition's newest mark with all facts that were told before; repetitions after a crash add nothing.

    Examples
    --------
    >>> known = merged(None, Mark(0, 2, 60, appended_ms=7, closings=((60, 7, 0),)))
    >>> merged(known, Mark(0, 2, 120, appended_ms=9, closings=((60, 7, 0), (120, 9, 0)))).closings
    ((60, 7, 0), (120, 9, 0))

    The span of an idle partition grows with each mark.

    >>> merged(Mark(0, 2, 60, idle_spans=((40, 50),)), Mark(0, 2, 60, idle_spans=((40, 55),))).idle_spans
    ((40, 55),)
    """
    closed_ms, closings, spans = (known.closed_ms, known.closings, known.idle_spans) if known else (0, (), ())
    fresh = tuple(closing for closing in mark.closings if closing[0] > closed_ms)
    if fresh and closings and closings[-1][1] == fresh[0][1]:
        closings = closings[:-1]
    told = list(spans)
    for span in mark.idle_spans:
        if told and told[-1][0] == span[0]:
            told[-1] = max(span, told[-1])
        elif not told or span > told[-1]:
            told.append(span)
    closed_ms = max(closed_ms, mark.closed_ms)
    return msgspec.structs.replace(mark, closed_ms=closed_ms, closings=closings + fresh, idle_spans=tuple(told))


def moments(marks: Mapping[int, Mark], final_ms: int) -> list[Moment]:
    """The moments that are known by now of windows that end after ``final_ms``, in order.

    Examples
    --------
    Partition 1 never held a record, and nothing was appended to it up to the time 50 000.

    >>> moments({0: Mark(0, 2, 60, closings=((60, 47_000, 30_000),)), 1: Mark(1, 2, 0, idle_spans=((29_999, 50_001),))}, 0)
    [Moment(end_ms=60, appended_ms=47000)]
    """
    if not marks or len(marks) < next(iter(marks.values())).partitions:
        return []
    found: list[Moment] = []
    while (end_ms := _next_end(marks, final_ms)) is not None and (at := _moment(marks, end_ms)) is not None:
        found.append(Moment(end_ms, at))
        final_ms = end_ms
    return found


def undecided_from(marks: Mapping[int, Mark], final_ms: int) -> int:
    """Append time before which no window that ends after ``final_ms`` can have its moment: nobody had closed it.

    Examples
    --------
    Partition 0 has closed nothing further up to 50 000, as far as is known, and partition 1 closed a window at 47 000.

    >>> undecided_from({0: Mark(0, 2, 60, appended_ms=50_000), 1: Mark(1, 2, 120, closings=((120, 47_000, 0),))}, 60)
    47000
    """
    if not marks or len(marks) < next(iter(marks.values())).partitions:
        return 0
    end_ms = _next_end(marks, final_ms)
    closed = {place: None if end_ms is None else _closed(mark, end_ms) for place, mark in marks.items()}
    return min(each[1] if (each := closed[place]) else mark.appended_ms for place, mark in marks.items())


def dragged_ms(marks: Mapping[int, Mark], distance_ms: int) -> int:
    """End of the windows that are final where timestamps are the producers', and the log can't tell who is idle.

    A partition that is idle by the wall clock is taken along at a distance from the foremost, so that it does not hold
    back finality for ever.

    Examples
    --------
    >>> dragged_ms({0: Mark(0, 2, 600), 1: Mark(1, 2, 60, idle=True)}, 300)
    300
    """
    foremost = max(marks.values(), key=attrgetter("closed_ms"))
    if len(marks) < foremost.partitions:
        return 0
    least_ms = foremost.closed_ms - distance_ms
    dragged = {
        place for place, mark in marks.items() if mark.idle and NO_TIME in (mark.appended_ms, foremost.appended_ms)
    }
    return min(max(mark.closed_ms, least_ms) if place in dragged else mark.closed_ms for place, mark in marks.items())


def holders(marks: Mapping[int, Mark], final_ms: int, distance_ms: int) -> list[int]:
    """Partitions that have not closed what is to be final next, if another is a distance ahead of what is final.

    Examples
    --------
    Partition 2 has told nothing yet.

    >>> holders({0: Mark(0, 3, 600), 1: Mark(1, 3, 60)}, 60, 300), holders({0: Mark(0, 3, 600)}, 60, 900)
    ([1, 2], [])
    """
    foremost = max(marks.values(), key=attrgetter("closed_ms"), default=None)
    if foremost is None or foremost.closed_ms < final_ms + distance_ms:
        return []
    return [place for place in range(foremost.partitions) if place not in marks or marks[place].closed_ms <= final_ms]


def without(mark: Mark, past: Moment) -> Mark:
    """A mark without the facts that no window after a moment needs."""
    closings = mark.closings[bisect_right(mark.closings, past.end_ms, key=itemgetter(0)) :]
    spans = tuple(span for span in mark.idle_spans if span[1] > past.appended_ms)
    if (len(closings), len(spans)) == (len(mark.closings), len(mark.idle_spans)):
        return mark
    return msgspec.structs.replace(mark, closings=closings, idle_spans=spans)


def _next_end(marks: Mapping[int, Mark], final_ms: int) -> int | None:
    """End of the first window after ``final_ms`` that a partition has closed and that may have a moment of its own."""
    places = ((mark, bisect_right(mark.closings, final_ms, key=itemgetter(0))) for mark in marks.values())
    return min((mark.closings[place][0] for mark, place in places if place < len(mark.closings)), default=None)


def _moment(marks: Mapping[int, Mark], end_ms: int) -> int | None:
    """When the windows that end there are final; None while that is not known.

    From the first closing on, every partition may put the moment off to where it has closed the window or is idle.
    """
    closed = {place: each for place, mark in marks.items() if (each := _closed(mark, end_ms)) is not None}
    at = min((appended_ms for _, appended_ms, _ in closed.values()), default=None)
    witness_ms = min((max(closing[1:]) for closing in closed.values()), default=EVER)
    settled = False
    while at is not None and not settled:
        settled = True
        for place, mark in marks.items():
            allowed = _allowed(mark, closed[place][1] if place in closed else EVER, at, witness_ms)
            if allowed is None:
                return None
            settled = settled and allowed == at
            at = allowed
    return at


def _closed(mark: Mark, end_ms: int) -> Closed | None:
    """How a partition closed the windows that end there, if it has."""
    place = bisect_left(mark.closings, end_ms, key=itemgetter(0))
    return mark.closings[place] if place < len(mark.closings) else None


def _allowed(mark: Mark, closed_at: int, at: int, witness_ms: int) -> int | None:
    """First append time from ``at`` on at which a partition lets a window be final; None while none is known.

    It may be idle from ``witness_ms`` on.
    """
    if closed_at <= at:
        return at
    idle_at = max(at, witness_ms)
    place = bisect_right(mark.idle_spans, idle_at, key=itemgetter(1))
    since = mark.idle_spans[place][0] if place < len(mark.idle_spans) else EVER
    first = min(max(since, idle_at), closed_at)
    return None if first == EVER else first
