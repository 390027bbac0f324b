"""The usable records of a batch, grouped by model version."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np

from driftline.detectors.arrays import I64, Mask
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.layout.watch import ModelKey


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of one model version in a batch, in log order.

    Parameters
    ----------
    key
        Which model version.
    offsets, event_ms
        Of the n records, shape (n,).
    start_ms
        Start of the window that each is counted in, shape (n,).
    is_late
        Whether it is counted as late there, shape (n,).
    places
        Which of the batch's records they are, shape (n,).
    """

    key: ModelKey
    offsets: I64
    event_ms: I64
    start_ms: I64
    is_late: Mask
    places: I64

    def at(self, key: ModelKey, rows: I64) -> "Rows":
        """Some of the rows, by their indices, as those of a model version."""
        return Rows(
            key, self.offsets[rows], self.event_ms[rows], self.start_ms[rows], self.is_late[rows], self.places[rows]
        )

    def where(self, mask: Mask) -> "Rows":
        """The rows at which a mask of shape (n,) holds."""
        return self if mask.all() else self.at(self.key, mask.nonzero()[0])

    @property
    def starts(self) -> list[int]:
        """Starts of the windows that the rows are counted in, ascending."""
        return sorted(set(self.start_ms.tolist()))


def coded(predictions: Sequence[Prediction]) -> tuple[list[ModelKey], I64]:
    """Model versions in the order of their first record, and each record's place among them, shape (n,)."""
    n = len(predictions)
    if len(set(map(attrgetter("model"), predictions))) == len(set(map(attrgetter("version"), predictions))) == 1:
        return [(predictions[0].model, predictions[0].version)], np.zeros(n, np.int64)
    keys = list(map(attrgetter("model", "version"), predictions))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    return list(places), np.fromiter(map(places.__getitem__, keys), np.int64, n)


def by_model(every: Rows, codes: I64, keys: list[ModelKey]) -> Iterator[Rows]:
    """Split rows by their model's code, keeping log order."""
    if len(keys) == 1 and codes.size:
        yield replace(every, key=keys[0])
        return
    order = codes.argsort(kind="stable")
    ends = np.bincount(codes, minlength=len(keys)).cumsum().tolist()
    for key, start, stop in zip(keys, [0, *ends], ends, strict=False):
        if start < stop:
            yield every.at(key, order[start:stop])
