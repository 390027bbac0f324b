"""What a peer is told: a JSON file that the harness writes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WINDOW_MS = 60_000
"""Event time of a window, for every peer."""


@dataclass(frozen=True)
class Job:
    """One run of one peer.

    Parameters
    ----------
    bootstrap, topic, partitions
        The log.
    records
        How many records to take in.
    group
        A consumer group, or an app's id, that nobody had before.
    directory
        Where the peer may write; ``baselines.jsonl`` and ``reference.jsonl`` lie there.
    """

    bootstrap: str
    topic: str
    partitions: int
    records: int
    group: str
    directory: str

    @classmethod
    def read(cls, path: str) -> Job:
        """Read what :meth:`write` wrote."""
        return cls(**json.loads(Path(path).read_text()))

    def write(self) -> Path:
        """Write it into its directory; return the file."""
        path = Path(self.directory) / f"{self.group}.json"
        path.write_text(json.dumps(asdict(self)))
        return path

    def baseline_lines(self) -> list[bytes]:
        """The baselines' documents."""
        return (Path(self.directory) / "baselines.jsonl").read_bytes().splitlines()

    def baselines(self) -> list[dict[str, Any]]:
        """The baselines as plain dictionaries."""
        return [json.loads(line) for line in self.baseline_lines()]

    def reference_lines(self) -> list[bytes]:
        """Records like the log's, for peers that compare tables with a table."""
        return (Path(self.directory) / "reference.jsonl").read_bytes().splitlines()
