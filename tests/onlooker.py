"""A worker seen from outside: its metrics, its readiness, and what the operating system says of its process."""

from __future__ import annotations

import asyncio
import os
import re
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
MIB = 2**20
_ADDRESS = re.compile(r"metrics on (http://[\d.:]+)/metrics")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Usage(NamedTuple):
    """What a process holds now."""

    at_s: float
    cpu_s: float
    rss_mib: float
    fds: int
    threads: int


class Series(NamedTuple):
    """One sample's name and labels."""

    name: str
    labels: frozenset[tuple[str, str]]

    def label(self, name: str) -> str:
        return dict(self.labels)[name]


@dataclass(frozen=True)
class Onlooker:
    """Looks at one worker process, by the address that it has written into its log."""

    process: subprocess.Popen[bytes]
    log: Path

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer; status 0 while nobody answers."""
        found = _ADDRESS.search(self.log.read_text(encoding="utf-8"))
        return await asyncio.to_thread(_get, found[1] + path) if found else (0, "")

    async def metrics(self) -> Counter[Series]:
        """Every sample of /metrics."""
        status, text = await self.get("/metrics")
        assert status == 200, f"/metrics answers {status}; {self.log.read_text(encoding='utf-8')[-300:]}"
        return Counter(
            {
                Series(name, frozenset(_LABEL.findall(labels or ""))): float(value)
                for name, labels, value in _SAMPLE.findall(text)
            }
        )

    async def ready(self, within_s: float) -> float:
        """Wait until /readyz says 200; after how many seconds it did."""
        started = time.monotonic()
        async with asyncio.timeout(within_s):
            while (await self.get("/readyz"))[0] != 200:
                assert self.process.poll() is None, self.log.read_text(encoding="utf-8")[-2000:]
                await asyncio.sleep(0.05)
        return time.monotonic() - started

    def usage(self) -> Usage:
        """What the process holds now."""
        home = f"/proc/{self.process.pid}"
        with open(f"{home}/stat", encoding="ascii") as file:  # noqa: PTH123 - /proc has no encoding of its own
            fields = file.read().rpartition(")")[2].split()
        cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
        rss_mib = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / MIB
        return Usage(time.monotonic(), cpu_s, rss_mib, len(os.listdir(f"{home}/fd")), int(fields[17]))  # noqa: PTH208


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - an address of our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def by_label(samples: Counter[Series], name: str, label: str) -> Counter[str]:
    """Samples of a name, added up by one label; zeros are left out."""
    found: Counter[str] = Counter()
    for series, value in samples.items():
        if series.name == f"driftline_{name}" and value:
            found[series.label(label)] += int(value)
    return found


def total(samples: Counter[Series], name: str) -> int:
    """All samples of a name, added up."""
    return int(sum(value for series, value in samples.items() if series.name == f"driftline_{name}"))


def read(samples: Counter[Series]) -> int:
    """Records that were taken in, each counted once."""
    found = by_label(samples, "records_total", "result")
    return found.total() - found["replay_skipped"]
