"""Real-time drift and outlier detection for models in production, on Kafka.

Services log their predictions, and whoever waits for trouble subscribes to alerts:

>>> from driftline import AlertSubscriber, PredictionLogger

Both are imported when they are first used, so that ``import driftline`` costs a service next to nothing.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.client.client import AlertSubscriber, PredictionLogger

    __version__: str

__all__ = ["AlertSubscriber", "Baseline", "PredictionLogger", "__version__"]

_HOMES = {
    "AlertSubscriber": "driftline.streams.client.client",
    "Baseline": "driftline.detectors.documents.baseline",
    "PredictionLogger": "driftline.streams.client.client",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("driftline")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
