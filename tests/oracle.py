"""A brute-force count over all records: dicts, loops and bisection, no line of driftline.

It reads raw records, baselines as JSON documents and the plan's numbers, and says what every final window must hold.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.logs import Record


class Numbers(NamedTuple):
    """The plan's numbers that decide what is counted where."""

    window_ms: int = 60_000
    lateness_ms: int = 10_000
    max_ahead_ms: int = 60_000
    events_per_window: int = 3
    events_per_million: float = 1.0
    default_model: str = "churn"


@dataclass
class Window:
    """Counts of one window: per signal ``bin i``, ``level x``, ``missing``, ``nonfinite``, ``unseen``."""

    n: int = 0
    late: int = 0
    cells: dict[str, Counter[str]] = field(default_factory=dict)
    violations: Counter[tuple[str, str]] = field(default_factory=Counter)
    baseline: str = ""


@dataclass
class Found:
    """What a log must come to."""

    windows: dict[tuple[str, str, int], Window] = field(default_factory=dict)
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)
    events: set[tuple[int, int, str, str]] = field(default_factory=set)
    accepted: int = 0
    late: int = 0
    closed_ms: dict[int, int] = field(default_factory=dict)

    @property
    def final(self) -> dict[tuple[str, str, int], Window]:
        """Windows that every partition has passed."""
        return {key: window for key, window in self.windows.items() if key[2] + 60_000 <= min(self.closed_ms.values())}


class Refused(Exception):  # noqa: N818 - the record's fault
    """Why a record can't be used."""


def count(partitions: Sequence[Sequence[Record]], documents: Iterable[bytes], numbers: Numbers) -> Found:
    """Count all records of all partitions."""
    found = Found()
    baselines = [json.loads(document) for document in documents]
    for place, records in enumerate(partitions):
        _count_partition(found, place, records, baselines, numbers)
    return found


def _count_partition(
    found: Found, partition: int, records: Sequence[Record], baselines: list[dict[str, Any]], numbers: Numbers
) -> None:
    highest_ms = None
    told: Counter[tuple[str, str, int]] = Counter()
    here: dict[tuple[str, str, int], Counter[Any]] = {}
    for record in records:
        try:
            key, features, event_ms = _read(record, baselines, numbers)
        except Refused as reason:
            found.rejected[partition, record.offset] = str(reason)
            continue
        watermark_ms = -1 if highest_ms is None else highest_ms - numbers.lateness_ms
        start_ms = event_ms // numbers.window_ms * numbers.window_ms
        is_late = start_ms + numbers.window_ms <= watermark_ms
        if is_late and highest_ms is not None:
            start_ms = highest_ms // numbers.window_ms * numbers.window_ms
        highest_ms = event_ms if highest_ms is None else max(highest_ms, event_ms)
        baseline = _effective(key, start_ms, baselines)
        if baseline is None:
            found.rejected[partition, record.offset] = "no_baseline_yet"
            continue
        window = found.windows.setdefault((*key, start_ms), Window(baseline=baseline["hash"]))
        if is_late:
            window.late += 1
            found.late += 1
            continue
        found.accepted += 1
        window.n += 1
        own = here.setdefault((*key, start_ms), Counter())
        own["records"] += 1
        for constraint, signal in _observe(window, features, baseline):
            own[constraint, signal] += 1
            is_told = _is_far(constraint, features.get(signal), baseline["signals"][signal]) or _is_beyond_chance(
                constraint, signal, own, baseline, numbers.events_per_million
            )
            if is_told and told[(*key, start_ms)] < numbers.events_per_window:
                told[(*key, start_ms)] += 1
                found.events.add((partition, record.offset, constraint, signal))
    watermark_ms = max(0, (highest_ms or 0) - numbers.lateness_ms)
    found.closed_ms[partition] = watermark_ms // numbers.window_ms * numbers.window_ms


def _effective(key: tuple[str, str], start_ms: int, baselines: list[dict[str, Any]]) -> dict[str, Any] | None:
    known = [each for each in baselines if (each["model"], each["version"]) == key]
    known = [each for each in known if each["effective_from_ms"] <= start_ms]
    return max(known, key=lambda each: each["effective_from_ms"], default=None)


def _read(
    record: Record, baselines: list[dict[str, Any]], numbers: Numbers
) -> tuple[tuple[str, str], dict[str, Any], int]:
    """Model key, signals (the prediction among them) and event time of a record."""
    if record.value is None:
        raise Refused("tombstone")
    try:
        document = json.loads(record.value.decode())
    except UnicodeDecodeError as error:
        raise Refused("invalid_utf8") from error
    except json.JSONDecodeError as error:
        raise Refused("invalid_json") from error
    key, signals = _signals(document, baselines, numbers)
    stamp = document.get("timestamp")
    event_ms = record.timestamp if stamp is None else _milliseconds(stamp)
    if event_ms < 0:
        raise Refused("bad_timestamp")
    if event_ms > record.timestamp + numbers.max_ahead_ms:
        raise Refused("ahead")
    if not any((each["model"], each["version"]) == key for each in baselines):
        raise Refused("unknown_model" if all(map(str.isprintable, key)) else "bad_name")
    return key, signals, event_ms


def _signals(
    document: dict[str, Any], baselines: list[dict[str, Any]], numbers: Numbers
) -> tuple[tuple[str, str], dict[str, Any]]:
    missing = [name for name in ("model", "version", "features", "prediction") if name not in document]
    if missing and isinstance(document.get("input"), list):
        key = (document.get("model", numbers.default_model), document["model_version"])
        known = [each for each in baselines if (each["model"], each["version"]) == key]
        newest = max(known, key=lambda each: each["effective_from_ms"])
        names = [name for name in newest["signals"] if name != "prediction"]
        features = dict(zip(names, document["input"], strict=True))
        return key, {**features, "prediction": document["output"]}
    if any(isinstance(value, list) for value in document.get("features", {}).values()):
        raise Refused("invalid_field")
    if missing:
        raise Refused("missing_field")
    return (document["model"], document["version"]), {**document["features"], "prediction": document["prediction"]}


def _milliseconds(stamp: float | str) -> int:
    if isinstance(stamp, str):
        try:
            moment = datetime.fromisoformat(stamp)
        except ValueError:
            return -1
        return round(moment.astimezone(UTC).timestamp() * 1000)
    if stamp < 0:
        return -1
    for unit, per_ms in ((10**11, 1 / 1000), (10**14, 1), (10**17, 1000)):
        if stamp < unit:
            return round(stamp * 1000) if per_ms < 1 else int(stamp // per_ms)
    return int(stamp // 1_000_000)


def _observe(window: Window, signals: dict[str, Any], baseline: dict[str, Any]) -> list[tuple[str, str]]:
    """Count one record; what it violates, by constraint, then by signal: numbers first."""
    broken = []
    for name, profile in baseline["signals"].items():
        numeric = profile["type"] == "numeric"
        cell, faults = (_number if numeric else _category)(signals.get(name), profile)
        window.cells.setdefault(name, Counter())[cell] += 1
        broken += [(_ORDER.index(fault), not numeric, fault, name) for fault in faults]
    in_order = [(fault, name) for *_, fault, name in sorted(broken, key=lambda each: each[:2])]
    window.violations.update((name, fault) for fault, name in in_order)
    return in_order


def _is_far(constraint: str, value: Any, profile: dict[str, Any]) -> bool:
    if constraint != "range":
        return False
    return bool(value < profile.get("least", -INFINITE) or value > profile.get("most", INFINITE))


def _is_beyond_chance(
    constraint: str, signal: str, own: Counter[Any], baseline: dict[str, Any], events_per_million: float
) -> bool:
    """Whether so many of the partition's records of a window can't be chance, as none of the baseline's did so."""
    profiles = baseline["signals"]
    held = sum(_never(constraint, profile) for profile in profiles.values())
    rows = baseline["n"]
    if constraint != "null":
        rows -= profiles[signal]["missing"]
    if constraint == "range":
        rows -= profiles[signal]["nonfinite"]
    n = own["records"]
    return bool((n / (n + rows)) ** own[constraint, signal] <= events_per_million / 1e6 / held)


def _never(constraint: str, profile: dict[str, Any]) -> bool:
    is_numeric = profile["type"] == "numeric"
    holds: dict[str, bool] = {
        "type": True,
        "null": profile["missing"] == 0,
        "range": is_numeric,
        "category": not is_numeric and profile["closed"],
        "finite": is_numeric and profile["nonfinite"] == 0,
    }
    return holds[constraint]


INFINITE = float("inf")
_ORDER = ("type", "null", "range", "category", "finite")


def _number(value: Any, profile: dict[str, Any]) -> tuple[str, list[str]]:
    if value is None:
        return "missing", ["null"] if profile["missing"] == 0 else []
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return "nonfinite", ["finite"] if profile["nonfinite"] == 0 else []
    if not isinstance(value, int | float):
        return "nonfinite", ["type"]
    inside = profile["low"] <= value <= profile["high"]
    return f"bin {bisect_right(profile['edges'], value)}", [] if inside else ["range"]


def _category(value: Any, profile: dict[str, Any]) -> tuple[str, list[str]]:
    if isinstance(value, dict):
        value = max(sorted(value), key=value.__getitem__, default=None)
    if value is None:
        return "missing", ["null"] if profile["missing"] == 0 else []
    if not isinstance(value, str):
        whole = isinstance(value, float) and value == int(value)
        value = str(int(value)) if whole else json.dumps(value)
    if value in profile["levels"]:
        return f"level {value}", []
    return "unseen", ["category"] if profile["closed"] else []
