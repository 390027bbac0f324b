"""One ADWIN as an object, as tests go about it; workers hold bare windows."""

from typing import Any

import numpy as np

from driftline.detectors.arrays import F64
from driftline.detectors.online import adwin

DELTA = 2e-4


class Adwin:
    """A window and its delta."""

    def __init__(self, delta: float = DELTA) -> None:
        self.delta = delta
        self._windows = [adwin.fresh(delta)]

    @property
    def window(self) -> Any:
        return self._windows[0]

    def feed(self, values: F64) -> list[adwin.Change]:
        (changes,) = adwin.feed_all(self._windows, [self.delta], np.asarray(values)[None])
        return changes

    def dump(self) -> bytes:
        return adwin.dump(self.window, self.delta)

    @classmethod
    def load(cls, dumped: bytes, delta: float = DELTA) -> "Adwin":
        restored = cls(delta)
        restored._windows = [adwin.load(dumped, delta)]
        return restored
