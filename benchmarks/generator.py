"""The reference work: a log of predictions, made from a seed.

One record is a JSON document of about 630 bytes: model, version, id, timestamp, 15 numeric and 5 categorical features,
prediction. Event time advances so that a window of one minute holds about 10 000 records, whatever the number of models.
Ten models in turn have means of their own; the eleventh is drawn as the first is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from driftline.detectors.baselines.fit import fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from driftline.detectors.documents.baseline import Baseline

START_MS = 1_700_000_040_000
"""Event time of the first record: the start of a minute."""
VERSION = "2024-05-01"
LEVELS = ("web", "app", "partner", "branch", "phone")
BASELINE_ROWS = 5_000
DISTRIBUTIONS = 10
CHUNK = 20_000
"""Records that are drawn together; part of what the seed means."""


@dataclass(frozen=True)
class Work:
    """What a log holds.

    Parameters
    ----------
    records
        Number of records.
    numeric, categorical
        Features of a record.
    models
        Number of models; each record is of one of them at random.
    null_share
        Share of numeric values that are null.
    window_records
        Records, of all models, in a window of one minute.
    seed
        The same seed gives the same bytes.
    """

    records: int
    numeric: int = 15
    categorical: int = 5
    models: int = 1
    null_share: float = 0.0
    window_records: int = 10_000
    seed: int = 1

    @property
    def numeric_names(self) -> list[str]:
        """Names of the numeric features."""
        return [f"amount_{place:02d}" for place in range(self.numeric)]

    @property
    def categorical_names(self) -> list[str]:
        """Names of the categorical features."""
        return [f"channel_{place:02d}" for place in range(self.categorical)]


def model_name(model: int) -> str:
    """Name of a model by its number."""
    return f"credit-{model:03d}"


def baselines(work: Work) -> list[Baseline]:
    """One baseline a model, of rows that are drawn as the log's are; models that are drawn alike share the rows."""
    fitted = [_fitted(work, model) for model in range(min(DISTRIBUTIONS, work.models))]
    return [
        msgspec.structs.replace(fitted[model % DISTRIBUTIONS], model=model_name(model)).sealed()
        for model in range(work.models)
    ]


def _fitted(work: Work, model: int) -> Baseline:
    twister = np.random.default_rng([work.seed, model, 7])
    drawn = _drawn(work, twister, np.full(BASELINE_ROWS, model))
    columns: dict[str, Any] = dict(zip(work.numeric_names, drawn.numeric.T.tolist(), strict=True))
    columns |= {
        name: [LEVELS[code] for code in codes]
        for name, codes in zip(work.categorical_names, drawn.codes.T.tolist(), strict=True)
    }
    return fit(model_name(model), VERSION, columns | {"prediction": drawn.prediction.tolist()})


def reference(work: Work) -> Iterator[bytes]:
    """Yield as many values as a window holds, drawn as the log's are, of none of its records."""
    return values(replace(work, records=work.window_records, seed=work.seed + 1))


def values(work: Work) -> Iterator[bytes]:
    """Yield the records' values in log order."""
    numeric_names, categorical_names = work.numeric_names, work.categorical_names
    for start in range(0, work.records, CHUNK):
        n = min(CHUNK, work.records - start)
        twister = np.random.default_rng([work.seed, start])
        models = twister.integers(work.models, size=n)
        drawn = _drawn(work, twister, models)
        numeric: list[list[float | None]] = [list(row) for row in drawn.numeric.tolist()]
        for row, place in zip(*np.nonzero(twister.random(drawn.numeric.shape) < work.null_share), strict=True):
            numeric[row][place] = None
        codes, outputs, names = drawn.codes.tolist(), drawn.prediction.tolist(), models.tolist()
        for row in range(n):
            features: dict[str, float | str | None] = dict(zip(numeric_names, numeric[row], strict=True))
            features |= zip(categorical_names, map(LEVELS.__getitem__, codes[row]), strict=True)
            yield orjson.dumps(
                {
                    "model": model_name(names[row]),
                    "version": VERSION,
                    "id": f"{start + row:012x}",
                    "timestamp": START_MS + (start + row) * 60_000 // work.window_records,
                    "features": features,
                    "prediction": outputs[row],
                }
            )


@dataclass(frozen=True)
class _Drawn:
    numeric: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    codes: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    prediction: np.ndarray[tuple[int], np.dtype[np.float64]]


def _drawn(work: Work, twister: np.random.Generator, models: np.ndarray[Any, Any]) -> _Drawn:
    """Features and predictions of records whose models are given: normal, log-normal and whole numbers in turn."""
    n = models.size
    numeric = twister.normal(size=(n, work.numeric)) + (models % DISTRIBUTIONS)[:, None] / DISTRIBUTIONS
    numeric[:, 1::3] = np.exp(numeric[:, 1::3])
    numeric[:, 2::3] = np.round(50 + 15 * numeric[:, 2::3])
    codes = twister.choice(len(LEVELS), size=(n, work.categorical), p=[0.4, 0.3, 0.15, 0.1, 0.05])
    logit = numeric[:, :2].sum(axis=1) - 1 + 0.5 * twister.normal(size=n)
    return _Drawn(numeric, codes, 1 / (1 + np.exp(-logit)))
