"""The naive arithmetic: the whole work one record at a time, the way most people would write it; peers share it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from typing import Any

from job import WINDOW_MS
from river.anomaly import HalfSpaceTrees
from river.drift import ADWIN

LATENESS_MS = 10_000


class NaiveModel:
    """Windows, detectors and verdicts of one model, fed one record at a time.

    Parameters
    ----------
    baseline
        The document on topic baselines: edges, counts and levels of each signal.
    """

    def __init__(self, baseline: dict[str, Any]) -> None:
        self.signals = baseline["signals"]
        self.edges = {name: signal["edges"] for name, signal in self.signals.items() if signal["type"] == "numeric"}
        self.levels = {name: s["levels"] for name, s in self.signals.items() if s["type"] == "categorical"}
        self.adwins = {name: ADWIN(delta=2e-5) for name in self.edges}
        trees = baseline["outliers"]
        limits = dict(zip(trees["features"], zip(trees["low"], trees["high"], strict=True), strict=True))
        self.trees = HalfSpaceTrees(n_trees=25, height=8, window_size=250, limits=limits, seed=1)
        self.threshold = trees["tail"][-1]
        self.windows: dict[int, dict[str, Counter[Any]]] = {}
        self.highest_ms = 0
        self.alerts = 0
        self.verdicts: list[dict[str, float]] = []

    def observe(self, record: dict[str, Any]) -> None:
        """Take in one record."""
        event_ms, features = record["timestamp"], record["features"]
        self.highest_ms = max(self.highest_ms, event_ms)
        start_ms = event_ms - event_ms % WINDOW_MS
        if start_ms + WINDOW_MS <= self.highest_ms - LATENESS_MS:
            return
        if start_ms not in self.windows:
            self.windows[start_ms] = {name: Counter() for name in self.signals}
        window = self.windows[start_ms]
        values = features | {"prediction": record["prediction"]}
        numbers = {}
        for name, edges in self.edges.items():
            value = values.get(name)
            if value is None or not math.isfinite(value):
                window[name]["missing"] += 1
                continue
            window[name][bisect_right(edges, value)] += 1
            self.adwins[name].update(value)
            self.alerts += self.adwins[name].drift_detected
            if name != "prediction":
                numbers[name] = value
        for name in self.levels:
            window[name][values.get(name)] += 1
        self.alerts += self.trees.score_one(numbers) > self.threshold
        self.trees.learn_one(numbers)
        for closed in [each for each in self.windows if each + WINDOW_MS <= self.highest_ms - LATENESS_MS]:
            self.verdicts.append(self.judged(self.windows.pop(closed)))

    def judged(self, window: dict[str, Counter[Any]]) -> dict[str, float]:
        """Population stability index of each signal."""
        found = {}
        for name, signal in self.signals.items():
            cells = range(len(signal["counts"])) if name in self.edges else self.levels[name]
            n, total = max(1, window[name].total()), max(1, sum(signal["counts"]))
            shares = [
                (max(window[name][cell] / n, 1e-4), max(count / total, 1e-4))
                for cell, count in zip(cells, signal["counts"], strict=True)
            ]
            found[name] = sum((p - q) * math.log(p / q) for p, q in shares)
        return found
