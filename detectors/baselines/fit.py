"""Make a baseline profile from training rows."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from driftline.detectors.baselines.categorical import categorical_signal
from driftline.detectors.baselines.numeric import numeric_signal
from driftline.detectors.baselines.outlier_fit import outlier_profile
from driftline.detectors.baselines.sensitive import blurred, without_levels
from driftline.detectors.baselines.training import CategoricalColumn, Column, NumericColumn, column_of
from driftline.detectors.documents.baseline import LARGEST, PREDICTION, Baseline, NumericSignal, Signal
from driftline.detectors.documents.predictions import Value
from driftline.detectors.errors import OperatorError


def fit(
    model: str,
    version: str,
    columns: Mapping[str, Column | Sequence[Value | dict[str, float]]],
    sensitive: Collection[str] = (),
) -> Baseline:
    """Profile training rows.

    Parameters
    ----------
    model, version
        Whose baseline it is.
    columns
        Signal to its n values: a column, or Python values that :func:`~driftline.detectors.baselines.training.column_of` makes
        one of. The column named ``prediction`` is the model's output.
    sensitive
        Signals whose values the profile must not show.

    Returns
    -------
    The profile, sealed with its hash. The same rows give the same bytes.

    Raises
    ------
    OperatorError
        Where there is nothing to profile, or no column for a sensitive signal.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if not lengths or min(lengths.values()) == 0:
        raise OperatorError("a baseline needs at least one column and one row")
    if min(lengths.values()) < max(lengths.values()):
        raise OperatorError(f"columns must have the same number of rows, and have {lengths}")
    if unknown := sorted(set(sensitive) - columns.keys()):
        raise OperatorError(f"sensitive: there is no column {unknown[0]}; there are {', '.join(columns)}")
    typed = {
        name: values if isinstance(values, NumericColumn | CategoricalColumn) else column_of(values)
        for name, values in columns.items()
    }
    hidden = {
        name: without_levels(column, model, name)
        for name, column in typed.items()
        if name in sensitive and isinstance(column, CategoricalColumn)
    }
    signals = {name: _signal(name, column, is_sensitive=name in sensitive) for name, column in (typed | hidden).items()}
    features = {
        name: column.values
        for name, column in typed.items()
        if isinstance(column, NumericColumn) and name != PREDICTION
    }
    numeric = {name: signal for name, signal in signals.items() if isinstance(signal, NumericSignal)}
    n = max(lengths.values())
    return Baseline(
        model=model, version=version, n=n, signals=signals, outliers=outlier_profile(features, numeric)
    ).sealed()


def _signal(name: str, column: Column, *, is_sensitive: bool) -> Signal:
    if isinstance(column, CategoricalColumn):
        signal = categorical_signal(column)
        return msgspec.structs.replace(signal, boolean=column.boolean, markers=column.markers, sensitive=is_sensitive)
    found = column.values
    if np.max(np.abs(found), initial=0.0, where=np.isfinite(found)) > LARGEST:
        raise OperatorError(f"column {name}: has values beyond {LARGEST:g}, whose squares are infinite; rescale it")
    exact = msgspec.structs.replace(numeric_signal(found), text=column.text, markers=column.markers)
    return blurred(exact, found) if is_sensitive else exact
