"""Make a baseline profile from training rows."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from driftline.detectors import outliers
from driftline.detectors.arrays import F64
from driftline.detectors.baseline import PREDICTION, Baseline, CategoricalSignal, NumericSignal, OutlierProfile, Signal
from driftline.detectors.errors import OperatorError
from driftline.detectors.halfspace import Masses, score_and_learn
from driftline.detectors.normal_scores import TAIL_SHARES
from driftline.detectors.records import Value
from driftline.detectors.values import level_text, most_probable

N_BINS = 20
IMPOSSIBLE_SHARE = 1e-7
"""Share of values that a heavy tail has beyond its bound."""

LEAST_FOR_TAIL, HEAVY_TAIL = 500, 0.25
"""Values from which a tail's index is estimated, and the index from which a tail is heavy."""

MAX_LEVELS = 100
"""Levels of a categorical signal that a profile keeps; rarer ones count as unseen."""
LARGEST = 1e150
"""Largest magnitude of a value that a profile can hold."""


def fit(model: str, version: str, columns: Mapping[str, Sequence[Value | dict[str, float]]]) -> Baseline:
    """Profile training rows.

    Parameters
    ----------
    model, version
        Whose baseline it is.
    columns
        Signal to its n values; None is missing. A signal is numeric if every value that is not missing is a number;
        the column named ``prediction`` is the model's output.

    Returns
    -------
    The profile, sealed with its hash. The same rows give the same bytes.

    Raises
    ------
    OperatorError
        Where there is nothing to profile.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or min(lengths.values()) == 0:
        raise OperatorError("a baseline needs at least one column and one row")
    if min(lengths.values()) < max(lengths.values()):
        raise OperatorError(f"columns must have the same number of rows, and have {lengths}")
    numeric = {name: found for name, values in columns.items() if (found := as_numbers(values)) is not None}
    for name, found in numeric.items():
        if np.max(np.abs(found), initial=0.0, where=np.isfinite(found)) > LARGEST:
            raise OperatorError(f"column {name}: has values beyond {LARGEST:g}, whose squares are infinite; rescale it")
    signals: dict[str, Signal] = {
        name: numeric_signal(numeric[name]) if name in numeric else categorical_signal(values)
        for name, values in columns.items()
    }
    features = {name: values for name, values in numeric.items() if name != PREDICTION}
    n = max(lengths.values())
    return Baseline(model=model, version=version, n=n, signals=signals, outliers=outlier_profile(features)).sealed()


def as_numbers(values: Sequence[Value | dict[str, float]]) -> F64 | None:
    """Values as floats, missing as NaN and infinities kept; None if any is no number or there is none at all."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds or not all(issubclass(kind, float | int | np.number) and kind is not bool for kind in kinds):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float64)


def numeric_signal(values: F64) -> NumericSignal:
    """Profile numbers: quantile bins, tails, bounds and moments.

    Examples
    --------
    >>> signal = numeric_signal(np.arange(100.0))
    >>> signal.edges[:3], signal.counts[:3], signal.low, signal.high
    ([5.0, 10.0, 15.0], [5, 5, 5], 0.0, 148.5)
    """
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return NumericSignal(
            edges=[], counts=[0], missing=int(np.isnan(values).sum()), nonfinite=int(np.isinf(values).sum()),
            low=-sys.float_info.max, high=sys.float_info.max, mean=0.0, sd=0.0, tails=[0.0] * len(TAIL_SHARES),
        )  # fmt: skip
    edges = bin_edges(finite)
    low, high = plausible_bounds(finite)
    return NumericSignal(
        edges=edges.tolist(),
        counts=np.bincount(edges.searchsorted(finite, side="right"), minlength=edges.size + 1).tolist(),
        missing=int(np.isnan(values).sum()),
        nonfinite=int(np.isinf(values).sum()),
        low=low,
        high=high,
        mean=_short(float(finite.mean()), finite),
        sd=float(f"{finite.std():.4g}"),
        tails=[_short(each, finite) for each in np.quantile(finite, TAIL_SHARES).tolist()],
    )


def bin_edges(finite: F64) -> F64:
    """Edges of about 20 bins of equal baseline mass, with open tails; a bin each where there are fewer values.

    Parameters
    ----------
    finite
        Sorted values, at least one.
    """
    distinct = np.unique(finite)
    if distinct.size == 1:  # a constant: anything else is below or above
        return np.array([distinct[0], np.nextafter(distinct[0], np.inf)])
    if distinct.size <= N_BINS:
        return distinct[1:]
    places = (np.arange(1, N_BINS) * finite.size) // N_BINS
    edges = np.unique([_short(edge, finite) for edge in finite[places].tolist()])
    above: F64 = edges[edges > finite[0]]
    return above


def plausible_bounds(finite: F64) -> tuple[float, float]:
    """Bounds beyond which a single value is called impossible, and never a change of sign.

    Each tail, from the median to the extreme, is stretched to twice its length. Where it is heavy, that would still be
    exceeded now and then: by Hill's estimate of its index it is stretched to where one value in ten million lies.

    Parameters
    ----------
    finite
        Sorted values, at least one.

    References
    ----------
    Hill (1975), A simple general approach to inference about the tail of a distribution, Annals of Statistics 3(5).

    Examples
    --------
    Ages 0 to 80 around a median of 40 may reach 120, and never be negative.

    >>> plausible_bounds(np.array([0.0, 20.0, 40.0, 60.0, 80.0]))
    (0.0, 120.0)
    """
    smallest, middle, largest = float(finite[0]), float(np.median(finite)), float(finite[-1])
    low, high = middle - _reach((middle - finite)[::-1]), middle + _reach(finite - middle)
    low = max(low, 0.0) if smallest >= 0 else low
    high = min(high, 0.0) if largest <= 0 else high
    return _short(low, finite), _short(high, finite)


def _reach(distances: F64) -> float:
    """How far a tail may reach from the median, given the ascending signed distances of all values."""
    twice = 2.0 * float(distances[-1])
    if distances.size < LEAST_FOR_TAIL:
        return twice
    top = distances[-max(25, distances.size // 100) :]
    if top[0] <= 0:  # next to nothing lies beyond the median: too little to tell how far it may reach
        return 5.0 * twice
    index = float(np.log(top / top[0]).mean())  # 1 / alpha; an exponential tail has about .22 here
    if index < HEAVY_TAIL:
        return twice
    stretch = float(np.power(top.size / distances.size / IMPOSSIBLE_SHARE, index))
    return max(twice, float(top[0]) * stretch)


def _short(value: float, finite: F64) -> float:
    """Round to a 10 000th of the values' spread: finer than any bin, and short to write."""
    spread = float(finite[-1] - finite[0])
    quartiles = float(np.subtract(*np.quantile(finite, [0.75, 0.25])))
    unit = quartiles or spread
    return round(value, 4 - int(np.floor(np.log10(unit)))) if 0 < unit < np.inf else value


def categorical_signal(values: Sequence[Value | dict[str, float]]) -> CategoricalSignal:
    """Profile categories.

    Examples
    --------
    >>> signal = categorical_signal(["b", "a", "a", None, True])
    >>> signal.levels, signal.counts, signal.missing, signal.closed
    (['a', 'b', 'true'], [2, 1, 1], 1, False)
    """
    probable = [most_probable(value) for value in values]
    counted = Counter(level_text(value) for value in probable if value is not None)
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    kept, rare = ranked[:MAX_LEVELS], ranked[MAX_LEVELS:]
    return CategoricalSignal(
        levels=[level for level, _ in kept],
        counts=[count for _, count in kept],
        missing=sum(value is None for value in probable),
        unseen=sum(count for _, count in rare),
        closed=not rare and min(counted.values(), default=0) > 1,
    )


def outlier_profile(features: Mapping[str, F64]) -> OutlierProfile | None:
    """Run half-space trees over the rows in order; None where fewer than two windows of rows or no spread is left."""
    spread = {name: ranges for name, values in features.items() if (ranges := _range(values)) is not None}
    n = len(next(iter(features.values()), ()))
    if not spread or n < 2 * outliers.WINDOW:
        return None
    low, high, centre = (list(each) for each in zip(*spread.values(), strict=True))
    blank = OutlierProfile(
        features=list(spread), low=low, high=high, centre=centre, window=outliers.WINDOW,
        leaves="", scored=0, tail=[], tail_counts=[], mean_excess=1.0, dispersion=1.0,
    )  # fmt: skip
    rows = outliers.Scale.of(blank).unit_rows(np.array([features[name] for name in spread]))
    masses = Masses.empty(outliers.N_TREES, outliers.HEIGHT, outliers.WINDOW)
    scores, masses = score_and_learn(masses, outliers.leaf_numbers(rows))
    return outliers.profiled(blank, scores[outliers.WINDOW :], masses)


def _range(values: F64) -> tuple[float, float, float] | None:
    """Low and high, the .001 and .999 quantiles with a fifth of their distance beyond, and median; None if constant."""
    finite = np.sort(values[np.isfinite(values)])
    if not finite.size:
        return None
    low, centre, high = np.quantile(finite, [0.001, 0.5, 0.999]).tolist()
    margin = 0.2 * (high - low)
    return tuple(_short(each, finite) for each in (low - margin, high + margin, centre)) if margin > 0 else None  # type: ignore[return-value]
