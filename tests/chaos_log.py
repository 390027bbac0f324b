"""The log that the chaos suite works on: many models over many partitions, drift in some, records out of order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from driftline.detectors.baselines.fit import fit
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import plan_from
from driftline.streams.kafka.topics import create_topics
from tests.memory_broker import Record

if TYPE_CHECKING:
    from pathlib import Path

    from driftline.detectors.documents.baseline import Baseline
    from driftline.streams.config.settings import Settings

START_MS = 1_700_000_000_000 // 60_000 * 60_000
WINDOW_MS = 60_000
N_WINDOWS = 25
LATENESS_MS = 5_000
N_FEATURES = 3
APPENDED_MS = START_MS + 365 * 86_400_000
"""When the broker took the records, as far as it matters: after all of their event times that are no century ahead."""


@dataclass
class Fleet:
    """A log with all that belongs to it."""

    plan: dict[str, Any]
    baselines: list[Baseline]
    partitions: int
    values: list[list[tuple[int, bytes | None]]]
    watch: Watch

    def log(self, topic: str) -> list[list[Record]]:
        """The log's records per partition, as a consumer of a topic would get them."""
        return [
            [Record(topic, partition, offset, APPENDED_MS, value) for offset, (_, value) in enumerate(values)]
            for partition, values in enumerate(self.values)
        ]

    def log_ends(self) -> dict[int, int]:
        """End of the log per partition."""
        return {partition: len(values) for partition, values in enumerate(self.values)}

    async def create_topics(self, settings: Settings) -> None:
        """Make a run's topics."""
        await create_topics(settings, self.partitions)

    def reading(self, source: Settings, settings: Settings, config: Path) -> Settings:
        """Let a run read the log and the baselines that were published once, in its settings and in their file."""
        text = config.read_text(encoding="utf-8")
        shared = {name: getattr(source.topics, name) for name in ("predictions", "baselines")}
        for name, topic in shared.items():
            text = text.replace(f'"{settings.worker.app_id}-{name}"', f'"{topic}"')
        config.write_text(text, encoding="utf-8")
        return msgspec.structs.replace(settings, topics=msgspec.structs.replace(settings.topics, **shared))


def build_fleet(n_records: int, n_models: int, partitions: int) -> Fleet:
    """Make the log: half of the models shift after two thirds; event times run back by up to the lateness."""
    rng = np.random.default_rng(20)
    plan = {"window_ms": WINDOW_MS, "lateness_ms": LATENESS_MS, "min_rows": 100}
    baselines = [_baseline(rng, model) for model in range(n_models)]
    watch = Watch(plan_from(plan))
    for each in baselines:
        watch = watch.with_baseline(each)
    values = _values(rng, n_records, n_models, partitions)
    return Fleet(plan, baselines, partitions, values, watch)


def _baseline(rng: np.random.Generator, model: int) -> Baseline:
    """Every eighth model has rows enough for half-space trees: their state is most of a snapshot."""
    n = 2_000 if model % 8 == 0 else 450
    x = rng.normal(size=(n, N_FEATURES))
    columns: dict[str, Any] = {f"x{place}": x[:, place].tolist() for place in range(N_FEATURES)}
    columns["kind"] = rng.choice(["a", "b", "c"], size=n).tolist()
    columns["prediction"] = x.sum(axis=1).tolist()
    return fit(f"model-{model}", "1", columns)


def compact(document: dict[str, Any]) -> bytes:
    """JSON in no more memory than it needs: what orjson returns keeps the buffer that it was written into, 4 KB."""
    return memoryview(orjson.dumps(document)).tobytes()


def _values(rng: np.random.Generator, n: int, n_models: int, partitions: int) -> list[list[tuple[int, bytes | None]]]:
    """Event time and bytes of every record, per partition."""
    values: list[list[tuple[int, bytes | None]]] = [[] for _ in range(partitions)]
    steady = START_MS + np.arange(n) * (N_WINDOWS * WINDOW_MS) // n
    event_ms = (steady - rng.integers(0, LATENESS_MS - 1_000, size=n)).tolist()
    models, homes = rng.integers(0, n_models, size=n).tolist(), rng.integers(0, partitions, size=n).tolist()
    x = rng.normal(size=(n, N_FEATURES))
    x[:, 0] += 0.5 * ((np.array(models) % 2 == 1) & (np.arange(n) >= 2 * n // 3))
    x = x.round(5)
    rows, kinds = x.tolist(), rng.choice(["a", "b", "c"], size=n).tolist()
    names = [f"x{place}" for place in range(N_FEATURES)]
    for row in range(n):
        document = {
            "model": f"model-{models[row]}",
            "version": "1",
            "id": str(row),
            "timestamp": event_ms[row],
            "features": dict(zip(names, rows[row], strict=True)) | {"kind": kinds[row]},
            "prediction": sum(rows[row]),
        }
        values[homes[row]].append((event_ms[row], compact(document)))
    end_ms = START_MS + (N_WINDOWS + 2) * WINDOW_MS
    last: dict[str, object] = {
        "model": "model-0",
        "version": "1",
        "features": {},
        "prediction": None,
        "timestamp": end_ms,
    }
    for records in values:
        records.append((end_ms, orjson.dumps(last)))
    return values
