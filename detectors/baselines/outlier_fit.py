"""Profile rows as a whole: half-space trees run over the training rows, and how features go to extremes together."""

from collections.abc import Mapping

import numpy as np

from driftline.detectors.arrays import F64, I64
from driftline.detectors.baselines.numeric import short
from driftline.detectors.baselines.sensitive import lower, middle, upper
from driftline.detectors.documents.baseline import NumericSignal
from driftline.detectors.documents.outlier_profile import HEIGHT, N_TREES, OutlierProfile, Tail, packed
from driftline.detectors.layout.lookup_tables import Segments
from driftline.detectors.online import outliers
from driftline.detectors.online.halfspace import Masses, score_and_learn
from driftline.detectors.online.outliers import leaf_numbers, stretched
from driftline.detectors.online.surprise import Surprise, is_graded

REFERENCES = 100
"""Reference windows at least: fewer can't tell how much scores differ between them. Rows are shuffled and run again."""
TAIL_SCORES = 48
TAIL_SHARE = 0.05
"""A profile keeps at most so many of the highest scores, down to this share."""
FLAGGED_SHARE = 0.01
"""Share of the highest scores by which their clumping is measured."""
LEAST_ROWS, LEAST_EXCESSES, FITTED_SHARE = 1_000, 50, 0.01
"""A tail is fitted to so many distinct rows or this share of them, where the baseline has that many rows."""
LEAST_FOR_JOINT = 5_000
"""Rows from which it can be told how features go to extremes together."""
CORNERS = 64
MOST_TRIMMED, FEWEST_TRIMMED, GAP = 0.1, 25, 12.0
"""Rows that may be set apart as anomalies, at most and at least; the gap before them, in mean excesses of 50 rows."""


def outlier_profile(features: Mapping[str, F64], signals: Mapping[str, NumericSignal]) -> OutlierProfile | None:
    """Run half-space trees over shuffled rows; None where fewer than two windows of rows or no spread is left.

    Every row is scored against windows of other rows drawn at random, as a live record is, about a hundred windows in
    all. So ranks hold for any number of rows, tied or not, and the spread between windows is known.
    """
    spread = {
        name: ranges for name, values in features.items() if (ranges := _range(values, signals[name])) is not None
    }
    n = len(next(iter(features.values()), ()))
    if not spread or n < 2 * outliers.WINDOW:
        return None
    low, high, centre = (list(each) for each in zip(*spread.values(), strict=True))
    blank = OutlierProfile(
        features=list(spread), low=low, high=high, centre=centre, window=outliers.WINDOW,
        leaves="", scored=n, tail=[0.0], tail_counts=[n], dispersion=1.0,
    )  # fmt: skip
    values = np.array([features[name] for name in spread])
    scale = outliers.Scale.of(blank)
    runs, masses = _scored(leaf_numbers(scale.unit_rows(values)))
    assert masses.reference is not None  # the rows filled two windows
    tail, counts = _ranked(np.concatenate([scores for _, scores in runs]), n)
    score_tail, trimmed = _score_tail(runs, values)
    return OutlierProfile(
        features=blank.features, low=low, high=high, centre=centre, window=blank.window,
        leaves=packed(masses.reference), scored=n, tail=tail, tail_counts=counts,
        dispersion=_dispersion(runs, n), score_tail=score_tail, trimmed=trimmed,
        highest=_highest(masses, len(spread)),
        joint_tail=_joint_tail(values, [signals[name] for name in spread]),
    )  # fmt: skip


Run = tuple[I64, F64]
"""Rows of the baseline, and what each scored against the reference window of its turn."""


def _scored(leaf: I64) -> tuple[list[Run], Masses]:
    """Score shuffled rows, as often as it takes for enough reference windows."""
    random, n = np.random.default_rng(0), len(leaf)
    runs = []
    for _ in range(-(-REFERENCES // (n // outliers.WINDOW))):
        order = random.permutation(n)
        scores, masses = score_and_learn(Masses.empty(N_TREES, HEIGHT, outliers.WINDOW), leaf[order])
        runs.append((order[outliers.WINDOW :], scores[outliers.WINDOW :]))
    return runs, masses


def _ranked(scores: F64, n: int) -> tuple[list[float], list[int]]:
    """High scores, ascending, and how many of n rows reach each."""
    ascending = np.sort(scores)
    ranks = np.unique(np.geomspace(max(1, scores.size // n), max(1, TAIL_SHARE * scores.size), TAIL_SCORES).astype(int))
    tail = np.unique(ascending[-ranks])
    reached = scores.size - ascending.searchsorted(tail)
    return tail.tolist(), np.ceil(n * reached / scores.size).astype(int).tolist()


def _dispersion(runs: list[Run], n: int) -> float:
    """Variance of the outliers per block over the binomial one, at least 1.

    The records of a block share a reference window, so outliers come in clumps; a test that took them for independent
    would alarm by itself. Blocks drawn from the same n rows differ less than new ones do, by the share of the rows that
    they hold; and two standard errors of the estimate are added.
    """
    scores = np.concatenate([each for _, each in runs])
    threshold = np.quantile(scores, 1 - FLAGGED_SHARE)
    share = float((scores >= threshold).mean())
    blocks = [
        (each[: each.size // outliers.WINDOW * outliers.WINDOW] >= threshold).reshape(-1, outliers.WINDOW).sum(axis=1)
        for _, each in runs
    ]
    hits, expected = np.concatenate(blocks), outliers.WINDOW * share * (1 - share)
    if not expected:
        return 1.0
    variance = float(hits.var(ddof=1)) / (1 - outliers.WINDOW / n)
    return float(max(1.0, round(variance / expected * (1 + 2 * np.sqrt(2 / hits.size)), 3)))


def _score_tail(runs: list[Run], values: F64) -> tuple[Tail | None, int]:
    """Tail of the stretched scores without the rows that a gap sets apart; None where too few distinct rows reach it."""
    n = values.shape[1]
    if n < LEAST_ROWS:
        return None, 0
    rows, scores = (np.concatenate(each) for each in zip(*runs, strict=True))
    found = stretched(scores)
    mean = np.bincount(rows, found, n) / np.maximum(np.bincount(rows, minlength=n), 1)
    order = mean.argsort(kind="stable")
    trimmed = _set_apart(mean[order])
    if trimmed and _is_category(values[:, order], trimmed):
        trimmed = 0
    is_kept = np.ones(n, np.bool_)
    is_kept[order[n - trimmed :]] = False
    rows, found = rows[is_kept[rows]], found[is_kept[rows]]
    k = max(LEAST_EXCESSES, int(FITTED_SHARE * n))
    start = float(np.quantile(found, 1 - k / n))
    beyond = found > start
    distinct = np.unique(values[:, np.unique(rows[beyond])], axis=1).shape[1]
    if distinct < LEAST_EXCESSES or np.unique(found[beyond]).size < LEAST_EXCESSES:
        return None, 0
    share, excess = float(beyond.mean()), float(found[beyond].mean()) - start
    return Tail(start=start, share=share, excess=excess, k=min(k, distinct), relative=False), trimmed


def _set_apart(ascending: F64) -> int:
    """How many of the highest values a gap sets apart from all others, at most a tenth; 0 for none.

    The gap is one that an exponential tail like that of the 50 values below it has once in a thousand baselines.
    """
    n, k = ascending.size, LEAST_EXCESSES
    places = np.arange(n - int(MOST_TRIMMED * n), n - FEWEST_TRIMMED + 1)
    sums = np.concatenate([[0.0], np.cumsum(ascending)])
    start = ascending[places - k - 1]
    excess = (sums[places] - sums[places - k]) / k - start
    apart = ascending[places] > start + GAP * excess
    return int(n - places[apart][0]) if apart.any() else 0


def _is_category(ordered: F64, trimmed: int) -> bool:
    """Whether the last rows share a value that is rare among the others: a category of their own, not anomalies."""
    for feature in ordered:
        own, repeats = np.unique(feature[-trimmed:], return_counts=True)
        value, share = own[repeats.argmax()], repeats.max() / trimmed
        if share > 0.9 and (feature[:-trimmed] == value).mean() < MOST_TRIMMED:
            return True
    return False


def _highest(masses: Masses, n_features: int) -> float:
    """The highest score of rows in the corners of the cube: of the two extreme ones, and of some more."""
    corners = np.random.default_rng(0).integers(0, 2, (CORNERS, n_features)).astype(np.float64)
    corners[0], corners[1] = 0.0, 1.0
    n = min(CORNERS, masses.window_size - 1)
    scores, _ = score_and_learn(masses, leaf_numbers(corners[:n]))
    return float(scores.max())


def _joint_tail(values: F64, signals: list[NumericSignal]) -> Tail | None:
    """Tail of the second largest surprise; None where too few rows reach it, or fewer than two features have one."""
    n = values.shape[1]
    chosen = [place for place, signal in enumerate(signals) if is_graded(signal)]
    if n < LEAST_FOR_JOINT or len(chosen) < 2:
        return None
    values, signals = values[chosen], [signals[place] for place in chosen]
    finite = np.isfinite(values)
    scores = Segments.of(signals, np.zeros(len(signals), np.int64)).scores(np.where(finite, values, 0.0))
    second = np.sort(Surprise.of(signals, n).second(values, scores, finite))
    k = int(FITTED_SHARE * n)
    top, start = second[-k:], float(second[-k - 1])
    if start <= 0 or top[-1] <= start:
        return None
    return Tail(start=start, share=k / n, excess=float(top.mean()) - start, k=k, relative=False)


def _range(values: F64, signal: NumericSignal) -> tuple[float, float, float] | None:
    """Low and high, the .001 and .999 quantiles with a fifth of their distance beyond, and median; None if constant."""
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return None
    low, centre, high = np.quantile(finite, [0.001, 0.5, 0.999]).tolist()
    margin = 0.2 * (high - low)
    exact = (low - margin, high + margin, centre)
    if not margin > 0:
        return None
    if signal.sensitive:
        low, high = lower(exact[0], finite), upper(exact[1], finite)
        return low, high, min(max(middle(centre, finite), 0.9 * low + 0.1 * high), 0.1 * low + 0.9 * high)
    brief = short(exact[0], finite), short(exact[1], finite), short(centre, finite)
    return brief if brief[0] < brief[2] < brief[1] else exact
