"""What a baseline holds for outliers, the part of its document that says how unlike the others a record may be."""

import base64
import binascii
import zlib
from collections.abc import Collection, Sequence
from math import isfinite

import msgspec
import numpy as np

from driftline.detectors.arrays import Ints
from driftline.detectors.errors import BUILD_BASELINE, OperatorError

N_TREES = 25
HEIGHT = 8
MOST_ROWS = 2**15 - 1
"""Rows of a reference window at most: masses are 16 bits wide."""


class Tail(msgspec.Struct, frozen=True, kw_only=True):
    """Upper tail of a statistic, fitted above a high quantile.

    Parameters
    ----------
    start, share
        Where it begins, and the share of baseline rows beyond that.
    excess
        Mean excess over the start; of logarithms where the tail is relative.
    k
        Values that it was fitted to.
    relative
        Whether logarithms of the excesses are exponential (a Pareto tail), not the excesses themselves.
    """

    start: float
    share: float
    excess: float
    k: int
    relative: bool


class OutlierProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What half-space trees made of the baseline, and how often records are far out in two features at once.

    Parameters
    ----------
    features
        Numeric features in the trees' column order.
    low, high, centre
        Per feature: the range that is scaled to [0, 1], and the median that stands in for a missing value.
    window
        Rows per reference window.
    leaves
        Leaf masses of one reference window, int16 of shape (trees, 2**height), zlib, base64.
    scored
        Number of baseline rows that were scored.
    tail, tail_counts
        High scores, ascending, and how many rows reach each, on average over reference windows and rounded up.
    dispersion
        Variance of the number of outliers per block of ``window`` records over the binomial one, at least 1.
    score_tail
        Tail of ``-log(1 - score)``; null where too few distinct rows reach it to tell how it goes on.
    highest
        The highest score that a record far out in every feature gets.
    joint_tail
        Tail of the second largest surprise of a row's features; null where that can't be told.
    trimmed
        Rows left out of ``score_tail`` as anomalies: a small group, set apart from all others by a gap.
    """

    features: list[str]
    low: list[float]
    high: list[float]
    centre: list[float]
    window: int
    leaves: str
    scored: int
    tail: list[float]
    tail_counts: list[int]
    dispersion: float
    score_tail: Tail | None = None
    highest: float = 1.0
    joint_tail: Tail | None = None
    trimmed: int = 0


def packed(leaf_counts: Ints) -> str:
    """Leaf masses as text for a profile: int16, zlib, base64."""
    return base64.b64encode(zlib.compress(leaf_counts.astype("<i2").tobytes(), 9)).decode()


def unpacked(text: str) -> Ints:
    """Leaf masses of shape (trees, leaves) from a profile's text.

    Raises
    ------
    ValueError
        Where the text holds anything else.
    """
    size = N_TREES * 2**HEIGHT * 2
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(str(error)) from error
    if len(raw) != size:
        raise ValueError(f"masses of {N_TREES} trees of height {HEIGHT} take {size} bytes")
    return np.frombuffer(raw, "<i2").reshape(N_TREES, 2**HEIGHT).astype(np.int16)


def check(profile: OutlierProfile, numeric: Collection[str], rows: int) -> None:
    """Refuse a profile that records can't be scored by.

    Parameters
    ----------
    profile
        What to check.
    numeric, rows
        Names of the baseline's numeric signals, and its number of rows.

    Raises
    ------
    OperatorError
        Naming the place.
    """
    for place, is_sound, wanted in _conditions(profile, numeric, rows):
        if not is_sound:
            raise OperatorError(f"outliers.{place}: {wanted}; rebuild the baseline with {BUILD_BASELINE}")
    try:
        masses = unpacked(profile.leaves)
    except ValueError as error:
        raise OperatorError(f"outliers.leaves: no leaf masses: {error}; rebuild the baseline") from error
    if (masses < 0).any() or (masses.sum(axis=1, dtype=np.int64) != profile.window).any():
        raise OperatorError(f"outliers.leaves: every tree must hold {profile.window} rows; rebuild the baseline")
    for place, tail in (("score_tail", profile.score_tail), ("joint_tail", profile.joint_tail)):
        if tail is not None and not _is_sound(tail):
            raise OperatorError(f"outliers.{place}: no tail of a distribution; rebuild the baseline")


def _conditions(profile: OutlierProfile, numeric: Collection[str], rows: int) -> list[tuple[str, bool, str]]:
    """Place, whether it is sound, and what is wanted there."""
    features, k = profile.features, len(profile.features)
    ranges = list(zip(profile.low, profile.centre, profile.high, strict=False))
    return [
        ("features", 0 < k == len(set(features)), "must name features, each once"),
        ("features", set(features) <= set(numeric), "must be numeric signals of this baseline"),
        ("low", len(profile.low) == len(profile.high) == len(profile.centre) == k, "low, high and centre: one each"),
        ("low", all(map(_is_range, ranges)), "must ascend from low over centre to high"),
        ("window", 0 < profile.window <= MOST_ROWS, f"must lie between 1 and {MOST_ROWS}"),
        ("scored", 0 < profile.scored <= rows, f"must lie between 1 and the {rows} rows of the baseline"),
        ("tail", 0 < len(profile.tail) == len(profile.tail_counts), "must hold a count for each score"),
        ("tail", _is_rising(profile.tail) and all(0 <= score <= 1 for score in profile.tail), "must ascend in [0, 1]"),
        ("tail_counts", _is_falling(profile.tail_counts, profile.scored), "must descend from scored to 0 at the least"),
        ("dispersion", isfinite(profile.dispersion) and profile.dispersion >= 1, "must be 1 or more"),
        ("highest", isfinite(profile.highest) and 0 <= profile.highest <= 1, "must lie between 0 and 1"),
        ("trimmed", 0 <= profile.trimmed <= profile.scored, "must be a number of rows"),
    ]


def _is_range(low_centre_high: tuple[float, float, float]) -> bool:
    low, centre, high = low_centre_high
    return all(map(isfinite, low_centre_high)) and low <= centre <= high and 0 < high - low < float("inf")


def _is_rising(values: Sequence[float]) -> bool:
    return all(map(isfinite, values)) and sorted(set(values)) == list(values)


def _is_falling(counts: Sequence[int], most: int) -> bool:
    return sorted(counts, reverse=True) == list(counts) and all(0 <= count <= most for count in counts)


def _is_sound(tail: Tail) -> bool:
    numbers = (tail.start, tail.share, tail.excess)
    is_placed = tail.start > 0 or not tail.relative
    return all(map(isfinite, numbers)) and is_placed and 0 < tail.share <= 1 and tail.excess > 0 < tail.k <= 2**53
