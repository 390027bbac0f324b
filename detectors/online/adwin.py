"""ADWIN on whole columns, with a state that is data.

River's Rust object does the work; what surrounds it feeds it a column at a time, says what changed, and keeps its state
in a layout of our own, because river's ``__setstate__`` believes whatever bytes it is given and panics later.

References
----------
Bifet and Gavalda (2007), Learning from time-changing data with adaptive windowing, SIAM Data Mining, 443-448.
"""

import functools
import math
import operator
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from river._river_rust.drift import AdaptiveWindowing  # river.drift would load 1000 modules for the same object
from scipy.special import ndtri

from driftline.detectors.arrays import F64
from driftline.detectors.errors import DamagedState

Window: TypeAlias = Any
"""River's object."""
LARGEST = 1e100
"""Largest magnitude: squares of larger values overflow, and an infinite variance blinds ADWIN for ever."""

MOST_SEEDS = 1_000
"""Values that a window is seeded with, at most."""
_CLOCK, _MAX_BUCKETS, _MIN_WINDOW, _GRACE = 32, 5, 5, 10
"""River's defaults: values between two checks, buckets of one size, shortest side of a cut, values before a check."""
_FORMAT = 1
_OWN = struct.Struct("<BdQdd")
"""Format, delta, width, total, variance; then every bucket's total, then the variance of all but the unit buckets."""
_RIVER_HEAD = struct.Struct("<diQ6d4iQ")
_RIVER_ROW = np.dtype(
    [("max", "<u8"), ("used", "<u8"), ("n", "<u8"), ("totals", "<f8", 6), ("m", "<u8"), ("variances", "<f8", 6)]
)
_RIVER_TAIL = struct.Struct("<diQii")
"""River's state: configuration, sums and counters, number of levels; one row a level; the configuration once more."""


class Change(NamedTuple):
    """A change of the mean.

    Parameters
    ----------
    row
        Index, in the column fed, of the value at which the change was found.
    before, after
        Mean of the values that ADWIN dropped and of those that it kept.
    width
        Number of values kept. The oldest of them may be from before the change.
    """

    row: int
    before: float
    after: float
    width: int


def fresh(delta: float) -> Window:
    """A window that holds nothing.

    Parameters
    ----------
    delta
        Significance of one check, in (0, 1).
    """
    return AdaptiveWindowing(delta, _CLOCK, _MAX_BUCKETS, _MIN_WINDOW, _GRACE)


def seeded(delta: float, mean: float, spread: float, rows: int) -> Window:
    """A window that has seen a baseline: values with this mean and standard deviation, as many as the baseline has rows.

    At most a thousand, so that a change from the first record on is found about as soon as one later; and no more than
    the baseline has, for its own mean is off by what its rows leave to chance. ADWIN keeps sums and variances only, so
    normal quantiles stand for the values. They come in an order in which every stretch of them has nearly that mean, so
    that they are no change themselves.

    Examples
    --------
    >>> window = seeded(0.002, 0.5, 1.0, 200)
    >>> window.get_width(), round(window.get_total() / 200, 9)
    (200.0, 0.5)
    """
    window = fresh(delta)
    window.__setstate__(_seeded_state(delta, mean, spread, min(rows, MOST_SEEDS)))
    return window


@functools.lru_cache(maxsize=1_000)
def _seeded_state(delta: float, mean: float, spread: float, n: int) -> bytes:
    """River's state after the seeds: every partition of a model begins with the same."""
    changes, window = _feed(fresh(delta), delta, (mean + spread * _seeds(n)).tolist())
    state: bytes = (fresh(delta) if changes else window).__getstate__()
    return state


@functools.lru_cache(maxsize=64)
def _seeds(n: int) -> F64:
    """Normal quantiles with mean 0 and variance 1, ordered by van der Corput's sequence: halves, quarters, eighths."""
    places = np.arange(n)
    radical = sum((places >> bit & 1) / 2.0 ** (bit + 1) for bit in range(MOST_SEEDS.bit_length()))
    quantiles: F64 = ndtri((np.argsort(np.argsort(radical)) + 0.5) / n)
    quantiles -= quantiles.mean()
    return quantiles / (quantiles.std() or 1.0)


def feed_all(windows: list[Window], deltas: Sequence[float], streams: F64) -> list[list[Change]]:
    """Feed k windows a stream each; a change empties its window, as with ``river.drift.ADWIN``.

    Windows are river's bare objects in a list: a worker holds dozens for every model, and one of ours around each would
    cost as much as the counts of an open window.

    Parameters
    ----------
    windows
        k windows; those in which a change was found are replaced.
    deltas
        Of each window.
    streams
        Shape (k, n), at most 1e100 in magnitude; what is missing is the caller's to replace.

    Returns
    -------
    Per window, changes by ascending row. They don't depend on how the stream was cut into columns.

    Raises
    ------
    ValueError
        When a value is not finite or too large; then nothing was fed. One NaN would blind ADWIN for ever.

    Examples
    --------
    64 zeros, then ones. ADWIN looks at every 32nd value; at row 95 it drops zeros, oldest first, until no cut of what
    is left is significant: 24 of them stay beside the 32 ones.

    >>> feed_all([fresh(0.002)], [0.002], np.repeat([[0.0, 1.0]], [64, 32], axis=1))
    [[Change(row=95, before=0.0, after=0.571, width=56)]]
    """
    if not (np.abs(streams) <= LARGEST).all():
        raise ValueError("ADWIN is fed finite values of at most 1e100 in magnitude only; mask others before")
    found = []
    for place, (delta, values) in enumerate(zip(deltas, streams.tolist(), strict=True)):
        changes, windows[place] = _feed(windows[place], delta, values)
        found.append(changes)
    return found


def _feed(window: Window, delta: float, values: list[float]) -> tuple[list[Change], Window]:
    """Feed values that :func:`feed_all` has checked; the window to go on with is a fresh one after a change."""
    changes: list[Change] = []
    remaining = iter(values)
    start, width, total = 0, window.get_width(), window.get_total()
    while any(map(window.update, remaining)):  # a loop in C that ends behind the value that said True
        stop = len(values) - operator.length_hint(remaining)
        # Added up one by one, as river does: a pairwise sum would depend on how the stream was cut into columns.
        total = np.cumsum([total, *values[start:stop]])[-1]
        changes.append(_change(window, stop - 1, width + stop - start, total))
        window = fresh(delta)
        start, width, total = stop, 0.0, 0.0
    return changes, window


def dump(window: Window, delta: float) -> bytes:
    """State as little-endian data, 33 bytes for an empty window, about 600 for 1000 values."""
    raw = window.__getstate__()
    *_, n_levels = head = _RIVER_HEAD.unpack_from(raw)
    levels = np.frombuffer(raw, _RIVER_ROW, n_levels, _RIVER_HEAD.size)
    used = np.arange(_MAX_BUCKETS + 1) < levels["used"][:, None]
    totals, variances = levels["totals"][used], levels["variances"][1:][used[1:]]
    total, variance, width = head[5:8]
    return _OWN.pack(_FORMAT, delta, int(width), total, variance) + totals.tobytes() + variances.tobytes()


def load(dumped: bytes, delta: float) -> Window:
    """Go on from :func:`dump`, bit for bit.

    Raises
    ------
    DamagedState
        When no stream leads to these bytes at this delta.
    """
    window = fresh(delta)
    _restore(window, _river_state(dumped, delta))
    return window


def _change(window: Window, row: int, width: float, total: float) -> Change:
    """Tell kept from dropped in a window that has just shrunk, given the width and the total that it had."""
    kept, kept_total = window.get_width(), window.get_total()
    return Change(row, float((total - kept_total) / (width - kept)), kept_total / kept, int(kept))


def _level_sizes(width: int) -> list[int]:
    """Buckets on each level of a window that never shrank: six buckets become four and one of twice the size."""
    sizes, arrived = [], width
    while arrived > _MAX_BUCKETS:
        merged = (arrived - _MAX_BUCKETS + 1) // 2
        sizes.append(arrived - 2 * merged)
        arrived = merged
    return [*sizes, arrived]


def _river_state(dumped: bytes, delta: float) -> bytes:
    """River's bytes for ours. All that ours don't hold follows from the width, so it can't contradict them."""
    try:
        form, dumped_delta, width, total, variance = _OWN.unpack_from(dumped)
    except struct.error as error:
        raise DamagedState("ADWIN: cut short") from error
    if form != _FORMAT or dumped_delta != delta or width > 2**53:
        raise DamagedState(f"ADWIN: format {form}, delta {dumped_delta} (configured: {delta}), width {width}")
    sizes = _level_sizes(width)
    n_buckets = sum(sizes)
    if len(dumped) != _OWN.size + 8 * (2 * n_buckets - sizes[0]):
        raise DamagedState(f"ADWIN: {len(dumped)} bytes don't fit a window of {width}")
    stored = np.frombuffer(dumped, "<f8", offset=_OWN.size)
    buckets = np.zeros((2, n_buckets))
    buckets[0], buckets[1, sizes[0] :] = stored[:n_buckets], stored[n_buckets:]
    _check_sums(buckets, sizes, total, variance)
    levels = np.zeros(len(sizes), _RIVER_ROW)
    levels["max"], levels["used"], levels["n"], levels["m"] = _MAX_BUCKETS, sizes, _MAX_BUCKETS + 1, _MAX_BUCKETS + 1
    used = np.arange(_MAX_BUCKETS + 1) < levels["used"][:, None]
    levels["totals"][used], levels["variances"][used] = buckets
    sums = (total, variance, float(width), width * (width + 1) / 2)
    counters = (_int32(2 * width - n_buckets), min(_most_buckets(width), 2**31 - 1), _int32(width), 0)
    head = _RIVER_HEAD.pack(delta, _CLOCK, _MAX_BUCKETS, _MIN_WINDOW, _GRACE, *sums, *counters, len(sizes))
    return head + levels.tobytes() + _RIVER_TAIL.pack(delta, _CLOCK, _MAX_BUCKETS, _MIN_WINDOW, _GRACE)


def _most_buckets(width: int) -> int:
    """River's counter of buckets before the last value's merges; it counts a merge as one more bucket."""
    return 2 * width - 1 - sum(_level_sizes(width - 1)) if width else 0


def _int32(count: int) -> int:
    """River counts in 32 bits and wraps."""
    return (count + 2**31) % 2**32 - 2**31


def _check_sums(buckets: F64, sizes: list[int], total: float, variance: float) -> None:
    """Refuse sums that no values up to LARGEST lead to, and a total that isn't the buckets', save for rounding."""
    totals, variances = np.append(buckets[0], total), np.append(buckets[1], variance)
    in_bucket = 2.0 ** np.arange(len(sizes)).repeat(sizes)
    width = in_bucket.sum()
    most = 2 * LARGEST * np.append(in_bucket, width)  # twice: sums are rounded
    if not ((np.abs(totals) <= most) & (variances >= 0) & (variances <= most * LARGEST)).all():
        raise DamagedState("ADWIN: sums that no finite values lead to")
    # A sum of n terms is off by at most n eps sum|x|, and sum|x| <= sqrt(n sum x^2) by Cauchy and Schwarz.
    slack = 4 * np.finfo(np.float64).eps * width * math.hypot(math.sqrt(width * variance), total)
    if abs(math.fsum(buckets[0]) - total) > slack:
        raise DamagedState(f"ADWIN: buckets add up to {math.fsum(buckets[0])}, not to {total}")


def _restore(window: Window, raw: bytes) -> None:
    """Hand river its bytes and see that it took them for what they are."""
    try:
        window.__setstate__(raw)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is no Exception
        raise DamagedState(f"ADWIN: river refuses the state: {error}") from error
    if window.__getstate__() != raw:
        raise DamagedState("ADWIN: river reads the state differently")
