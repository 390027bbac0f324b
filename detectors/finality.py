"""When a window is final: a function of the predictions' logs alone, whatever the clocks and the order of the marks.

A window is final at the smallest append time A at which

- every partition has closed it by records that were appended up to A, or
- one has closed it ``idle_after_ms`` before A or earlier, and every other has closed it too, or is idle at A: no record
  was appended to it in the ``idle_after_ms`` up to A.

So silence counts from the closing on. What was silent before may be filled at the same time: a backlog that is written
at once closes thousands of windows in one partition a moment before the first record lies in the next.

A partition that has closed the window gives its complete part. An idle one gives its records that were appended up to
A; what it adds later comes too late. Marks carry the facts that this takes: at which append time a partition closed
what, and from when to when it was idle. A partition whose mark says nothing of A is waited for.

A window's moment never lies before that of an earlier window, so finality is one moving bound.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from operator import attrgetter, itemgetter
from typing import NamedTuple

import msgspec

from driftline.detectors.partials import Mark
from driftline.detectors.windows import NO_TIME

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
    >>> known = merged(None, Mark(0, 2, 60, appended_ms=7, closings=((60, 7),)))
    >>> merged(known, Mark(0, 2, 120, appended_ms=9, closings=((60, 7), (120, 9)))).closings
    ((60, 7), (120, 9))

    An idle partition is told of again and again.

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


def moments(marks: Mapping[int, Mark], final_ms: int, idle_after_ms: int) -> list[Moment]:
    """The moments that are known by now of windows that end after ``final_ms``, in order.

    Examples
    --------
    Partition 1 never held a record, and nothing was appended to it up to the time 80 000.

    >>> marks = {0: Mark(0, 2, 60, closings=((60, 47_000),)), 1: Mark(1, 2, 0, idle_spans=((29_999, 80_001),))}
    >>> moments(marks, 0, 30_000)
    [Moment(end_ms=60, appended_ms=77000)]
    """
    if not marks or len(marks) < next(iter(marks.values())).partitions:
        return []
    found: list[Moment] = []
    while (end_ms := _next_end(marks, final_ms)) is not None and (
        at := _moment(marks, end_ms, idle_after_ms)
    ) is not None:
        found.append(Moment(end_ms, at))
        final_ms = end_ms
    return found


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


def _moment(marks: Mapping[int, Mark], end_ms: int, idle_after_ms: int) -> int | None:
    """When the windows that end there are final; None while that is not known.

    From some time after the first closing on, every partition may put the moment off to where it has closed the window
    or is idle.
    """
    closed = {place: _closed_at(mark, end_ms) for place, mark in marks.items()}
    known = [each for each in closed.values() if each is not None]
    if not known:
        return None
    at = min(known) + idle_after_ms
    if len(known) == len(closed) and max(known) <= at:
        return max(known)
    settled = False
    while not settled:
        settled = True
        for place, mark in marks.items():
            allowed = _allowed(mark, closed[place], at)
            if allowed is None:
                return None
            settled = settled and allowed == at
            at = allowed
    return at


def _closed_at(mark: Mark, end_ms: int) -> int | None:
    """Append time at which a partition closed the windows that end there, if it has."""
    place = bisect_left(mark.closings, end_ms, key=itemgetter(0))
    return mark.closings[place][1] if place < len(mark.closings) else None


def _allowed(mark: Mark, closed_at: int | None, at: int) -> int | None:
    """First append time from ``at`` on at which a partition lets a window be final; None while none is known."""
    if closed_at is not None and closed_at <= at:
        return at
    place = bisect_right(mark.idle_spans, at, key=itemgetter(1))
    since = mark.idle_spans[place][0] if place < len(mark.idle_spans) else EVER
    first = min(max(since, at), EVER if closed_at is None else closed_at)
    return None if first == EVER else first
