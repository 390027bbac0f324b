"""A brute-force count over all records: dicts, loops and bisection, no line of driftline.

It reads raw records, baselines as JSON documents and the plan's numbers, and says what every final window must hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isnan
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.logs import Record


class Numbers(NamedTuple):
    """The plan's numbers that decide what is counted where."""

    window_ms: int = 60_000
    lateness_ms: int = 10_000
    max_ahead_ms: int = 60_000
    max_open_windows: int = 100
    events_per_window: int = 3
    events_per_million: float = 1.0
    default_model: str = "churn"


@dataclass
class Window:
    """Counts of one window: per signal ``bin i``, ``level x``, ``missing``, ``nonfinite``, ``other``, ``unseen``."""

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
    flushes: int = 0
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
    highest_ms: int | None = None
    claimed: list[int] = []
    opened: set[tuple[str, str, int]] = set()
    told: Counter[tuple[str, str, int]] = Counter()
    here: dict[tuple[str, str, int], Counter[Any]] = {}
    for record in records:
        if (mark_ms := _flushed(record)) is not None:
            found.flushes += 1
            end_ms = (min(mark_ms, record.timestamp) // numbers.window_ms + 1) * numbers.window_ms
            highest_ms = max(-1 if highest_ms is None else highest_ms, end_ms + numbers.lateness_ms)
            continue
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
        highest_ms = _come_to(highest_ms, event_ms, record, claimed)
        baseline = _effective(key, start_ms, baselines)
        if baseline is None:
            found.rejected[partition, record.offset] = "no_baseline_yet"
            continue
        now_ms = -1 if highest_ms is None else highest_ms
        far_ms = now_ms // numbers.window_ms * numbers.window_ms + numbers.max_open_windows // 2 * numbers.window_ms
        far = {each for each in opened if each[:2] == key and each[2] > far_ms}
        if start_ms > far_ms and (*key, start_ms) not in far and 2 * len(far) >= numbers.max_open_windows:
            found.rejected[partition, record.offset] = "ahead"
            continue
        opened.add((*key, start_ms))
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


def _come_to(highest_ms: int | None, event_ms: int, record: Record, claimed: list[int]) -> int | None:
    """How far event time has come after a record; ``claimed`` collects what producers' clocks alone stand for."""
    if record.timestamp_type == 1:
        here_ms = min(event_ms, record.timestamp)
        return here_ms if highest_ms is None else max(highest_ms, here_ms)
    claimed.append(event_ms)
    there = [moment for moment in claimed[-32:] if sum(other >= moment for other in claimed[-32:]) >= 16]
    return max([*there, *([] if highest_ms is None else [highest_ms])], default=None)


def _flushed(record: Record) -> int | None:
    """The time of a flush mark, if it is one."""
    try:
        document = json.loads(record.value or b"")
    except ValueError:
        return None
    return document["event_ms"] if isinstance(document, dict) and document.get("driftline") == "flush" else None


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
        document = json.loads(record.value.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Refused("invalid_utf8") from error
    except json.JSONDecodeError as error:
        raise Refused("invalid_json") from error
    key, signals = _signals(document, numbers)
    stamp = document.get("timestamp")
    event_ms = record.timestamp if stamp is None else _milliseconds(stamp)
    if event_ms < 0:
        raise Refused("bad_timestamp")
    if isinstance(signals, list):
        signals = _named(key, signals, event_ms // numbers.window_ms * numbers.window_ms, baselines)
        signals["prediction"] = document["output"]
    if event_ms > record.timestamp + numbers.max_ahead_ms:
        raise Refused("ahead")
    if not any((each["model"], each["version"]) == key for each in baselines):
        raise Refused("unknown_model" if all(map(str.isprintable, key)) else "bad_name")
    return key, signals, event_ms


def _signals(document: dict[str, Any], numbers: Numbers) -> tuple[tuple[str, str], dict[str, Any] | list[Any]]:
    """Model key, and the signals by name, or the inputs without names."""
    missing = [name for name in ("model", "version", "features", "prediction") if name not in document]
    if missing and isinstance(document.get("input"), list):
        return (document.get("model", numbers.default_model), str(document["model_version"])), document["input"]
    if missing:
        raise Refused("missing_field")
    if isinstance(document["features"], list):
        raise Refused("invalid_field")
    key = (document["model"], str(document["version"]))
    return key, {**document["features"], "prediction": document["prediction"]}


def _named(key: tuple[str, str], inputs: list[Any], start_ms: int, baselines: list[dict[str, Any]]) -> dict[str, Any]:
    """Inputs by the names of the baseline that is in force at a window's start; without one they have none."""
    baseline = _effective(key, start_ms, baselines)
    if baseline is None:
        return {}
    names = [name for name in baseline["signals"] if name != "prediction"]
    if len(names) != len(inputs):
        raise Refused("invalid_field")
    return dict(zip(names, inputs, strict=True))


def _milliseconds(stamp: Any) -> int:
    if isinstance(stamp, dict):
        return int(stamp.get("$date", 0) or int(stamp["seconds"]) * 1000 + stamp["nanos"] // 1_000_000)
    stamp = int(stamp) if isinstance(stamp, str) and stamp.isdigit() else stamp
    if isinstance(stamp, str):
        stamp = stamp.replace("/", "-").replace(" UTC", "+00:00")
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
        cell, faults = (_number if numeric else _category)(_flat(name, signals), profile)
        window.cells.setdefault(name, Counter())[cell] += 1
        broken += [(_ORDER.index(fault), not numeric, fault, name) for fault in faults]
    in_order = [(fault, name) for *_, fault, name in sorted(broken, key=lambda each: each[:2])]
    window.violations.update((name, fault) for fault, name in in_order)
    return [(fault, name) for fault, name in in_order if fault != "type" or not baseline["signals"][name].get("text")]


def _flat(name: str, signals: dict[str, Any]) -> Any:
    """A signal's value; only a prediction may be an object, of probabilities."""
    value = signals.get(name)
    return [] if isinstance(value, dict) and name != "prediction" else value


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
    if _is_missing(value, profile):
        return "missing", ["null"] if profile["missing"] == 0 else []
    if isinstance(value, list):
        return "missing", ["type"]
    faults = []
    if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
        faults, value = ["type"], _of_text(value)
    if isinstance(value, dict) or value is None:
        return "nonfinite", ["type"]
    if isinstance(value, str) or abs(value) > 1.7976931348623157e308:
        return "nonfinite", faults or (["finite"] if profile["nonfinite"] == 0 else [])
    inside = profile["low"] <= value <= profile["high"]
    return f"bin {bisect_right(profile['edges'], value)}", [*faults, *([] if inside else ["range"])]


def _of_text(text: str) -> float | None:
    if set(text) <= set("0123456789+-.eE ") and text.strip():
        try:
            return float(text)
        except ValueError:
            pass
    return None


def _is_missing(value: Any, profile: dict[str, Any]) -> bool:
    return (
        value is None
        or (isinstance(value, float) and isnan(value))
        or (isinstance(value, str) and value in profile.get("markers", ()))
    )


def _category(value: Any, profile: dict[str, Any]) -> tuple[str, list[str]]:
    if isinstance(value, dict):
        value = max(sorted(value), key=value.__getitem__, default=None)
    if _is_missing(value, profile):
        return "missing", ["null"] if profile["missing"] == 0 else []
    if isinstance(value, list):
        return "missing", ["type"]
    if profile.get("boolean"):
        value = {"0": "false", "1": "true", "0.0": "false", "1.0": "true"}.get(str(value), str(value))
        value = value.lower() if value in ("True", "False", "TRUE", "FALSE") else value
    if not isinstance(value, str):
        whole = isinstance(value, float) and value.is_integer()
        value = str(int(value)) if whole else json.dumps(value)
    if value in profile["levels"]:
        return f"level {value}", []
    if _is_further(value, base64.b64decode(profile.get("further", ""))):
        return "other", []
    return "unseen", ["category"] if profile["closed"] else []


def _is_further(value: str, bits: bytes) -> bool:
    """Whether all four bits of a level are set; no bits, no levels."""
    digest = hashlib.blake2b(value.encode(), digest_size=8).digest()
    places = [int.from_bytes(digest[at : at + 2], "little") % max(1, 8 * len(bits)) for at in (0, 2, 4, 6)]
    return bool(bits) and all(bits[at // 8] & 2 ** (at % 8) for at in places)
