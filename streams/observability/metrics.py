"""Every metric of a worker, one a line: name, kind, unit, and what to do when it rises."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from driftline.detectors.layout.watch import ModelKey
from driftline.streams.observability.drift_gauge import DriftGauge


class Metrics:
    """The closed set of a worker's metrics, in a registry of its own.

    Parameters
    ----------
    version
        Of driftline, for ``driftline_build_info``.
    """

    def __init__(self, version: str) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"driftline_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"driftline_{name}", text, labels, registry=registry)

        # Records: in == accepted + late + rejected + flush_mark + replay_skipped at every moment.
        self.records_in = counter("records_in", "Prediction records consumed.")
        self.records = counter("records", "Prediction records by what became of them.", "result")
        self.rejected = counter("records_rejected", "Rejected records by reason; look at dead-letters.", "reason")
        self.dropped_fields = counter(
            "dropped_fields", "Values of optional fields that could not be used; their records were.", "field"
        )
        self.lost = counter("lost_offsets", "Offsets that retention took before they were read: add workers.")
        self.contradictions = counter(
            "log_contradictions", "Times that a log was not the one that was read; the last of four ends it.", "topic"
        )
        self.dead_letters = counter("dead_letters", "Dead letters written.")
        self.suppressed_dead_letters = counter(
            "suppressed_dead_letters", "Dead letters not written: too many a minute."
        )
        # Progress: lag that rises while the watermark stands means a stuck worker.
        self.lag = gauge("consumer_lag_records", "Records between position and end of the log.", "topic", "partition")
        self.watermark = gauge("watermark_timestamp_seconds", "Event time up to which windows are closed.", "partition")
        self.batch_seconds = Histogram(
            "driftline_batch_duration_seconds",
            "Time to take in one batch; near the poll interval: add workers.",
            ["stage"],
            registry=registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
        )
        self.partitions = gauge("assigned_partitions", "Input partitions that this worker owns.")
        self.checkpoints = counter("checkpoints", "Snapshots saved and committed.", "stage")
        self.damaged = counter(
            "damaged_snapshots", "Snapshots refused and rebuilt from the log: look at the log.", "stage"
        )
        # Findings.
        self.windows_closed = counter("windows_closed", "Final verdicts by status.", "status")
        self.untimely_appends = counter(
            "untimely_appends", "Records with append times at which their partition was idle."
        )
        self.missed_records = counter(
            "missed_records", "Accepted records that came after their window's final verdict."
        )
        self.stale_partials = counter("stale_partials", "Partials for final windows: repetitions after a crash.")
        self.lost_partials = counter("lost_partials", "Partials that retention took before they were read.")
        self.unmatched_partials = counter("unmatched_partials", "Partials of another baseline than the window's.")
        self.series_dropped = counter("series_dropped", "Drift series not exported: their gauge is full.")
        # Each full of its own series only: scores must not keep open alerts out.
        dropped = self.series_dropped
        self.drift_score = DriftGauge("drift_score", "Score of the last window.", registry, "detector", dropped)
        self.drift_active = DriftGauge("drift_active", "1 while an alert is open.", registry, "kind", dropped)
        self.alerts = counter("alerts", "Alerts sent.", "model", "kind", "severity", "state")
        self.models = gauge("models_watched", "Model versions with a baseline.")
        self.refused_baselines = counter("refused_baselines", "Records of topic baselines that can't be used.")
        # The process: on Linux its memory, CPU time and descriptors come with the library, under Prometheus' own names.
        self.tasks = gauge("asyncio_tasks", "Tasks of the event loop.")
        ProcessCollector(registry=registry)
        self.build = gauge("build_info", "Always 1.", "version")
        self.build.labels(version).set(1)
        for result in ("accepted", "late", "rejected", "flush_mark", "replay_skipped"):
            self.records.labels(result)

    def exposition(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)

    def forget(self, models: Iterable[ModelKey]) -> None:
        """Remove the drift series of model versions that another worker judges from now on."""
        for model in models:
            self.drift_score.forget(model)
            self.drift_active.forget(model)
