"""What one run of one peer measured, and how: wall time and CPU time between the first batch and the last."""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """Records taken in between two moments.

    Parameters
    ----------
    records
        Number of records between them.
    seconds, cpu_seconds
        Wall time, and CPU time of the consuming process or processes.
    peak_mb
        Highest resident memory, in MB.
    batches
        Number of batches; 0 where the peer knows none.
    """

    records: int
    seconds: float
    cpu_seconds: float
    peak_mb: float = 0.0
    batches: int = 0

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per record."""
        return 1e6 * self.cpu_seconds / self.records


class Stopwatch:
    """Runs in a peer from its first batch on; at the end it prints what was measured, as one line of JSON.

    The first batch starts the clock and is not counted.
    """

    def __init__(self) -> None:
        self._started = self._cpu = 0.0
        self._records = self._batches = 0

    def saw(self, records: int) -> None:
        """Tell of a batch that has been taken in."""
        if self._started:
            self._records += records
            self._batches += 1
        else:
            self._started, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Print what was measured."""
        seconds, cpu_seconds = time.perf_counter() - self._started, time.process_time() - self._cpu
        print(json.dumps(asdict(Measured(self._records, seconds, cpu_seconds, peak_mb(os.getpid()), self._batches))))
        sys.stdout.flush()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def peak_mb(pid: int) -> float:
    """Highest resident memory of a process so far, megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1_000_000 for line in lines if line.startswith("VmHWM"))


def settle() -> None:
    """Take what has been loaded so far out of the garbage collector's sight, as driftline's worker does."""
    gc.collect()
    gc.freeze()
