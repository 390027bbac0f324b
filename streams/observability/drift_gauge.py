"""A gauge of which a worker has thousands of series: plain numbers here, samples only while they are scraped."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from driftline.detectors.layout.watch import ModelKey

MAX_SERIES = 20_000
"""Series of a gauge; beyond it new ones are dropped and counted."""


LABELS = ("model", "version", "signal")


class DriftGauge(Collector):
    """A gauge with labels model, version, signal and one more; a series takes a tenth of what the library's would.

    Parameters
    ----------
    name, text
        As it is exported, after ``driftline_``.
    registry
        Where it is registered.
    label
        The last label: what tells the series of a signal apart.
    dropped
        Counts values that are not exported because the gauge is full.
    """

    def __init__(self, name: str, text: str, registry: CollectorRegistry, label: str, dropped: Counter) -> None:
        self.name, self._text, self._dropped = f"driftline_{name}", text, dropped
        self.labels = (*LABELS, label)
        self._series: dict[ModelKey, dict[tuple[str, str], float]] = {}
        self._n_series = 0
        registry.register(self)

    def set(self, model: ModelKey, signal: str, last: str, value: float) -> None:
        """Set a series, or make it if there is room."""
        if (signal, last) not in self._series.get(model, ()):
            if self._n_series >= MAX_SERIES:
                self._dropped.inc()
                return
            self._n_series += 1
        self._series.setdefault(model, {})[signal, last] = value

    def forget(self, model: ModelKey) -> None:
        """Remove the series of a model version."""
        self._n_series -= len(self._series.pop(model, ()))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All series, as the library wants them."""
        family = GaugeMetricFamily(self.name, self._text, labels=self.labels)
        for model, own in self._series.items():
            for place, value in own.items():
                family.add_metric((*model, *place), value)
        yield family
