"""What is watched: the plan and the baselines in force, one frozen value that both steps are handed."""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.sizes import check_size
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.names import NAME_RULE, is_name
from driftline.detectors.plan import Plan

ModelKey = tuple[str, str]
"""Model and version."""

MAX_REPLACED = 8
"""Replaced baselines that a model version keeps; by then windows that count by an older one are without."""


@dataclass(frozen=True)
class Watch:
    """A plan and the baselines that are known, oldest first per model version.

    Parameters
    ----------
    plan
        The plan.
    layouts
        Per model version its baselines, made ready for counting, in the order in which they become effective.
    replaced
        Per model version, baselines that others have taken the place of while windows may still be counted by them.
    retired
        Model versions whose baseline was withdrawn by a tombstone.
    withdrawn_sensitive
        Models with sensitive signals in a withdrawn baseline: their records may still arrive for a while.
    """

    plan: Plan
    layouts: Mapping[ModelKey, tuple[Layout, ...]] = field(default_factory=dict)
    replaced: Mapping[ModelKey, tuple[Layout, ...]] = field(default_factory=dict)
    retired: frozenset[ModelKey] = frozenset()
    withdrawn_sensitive: frozenset[str] = frozenset()

    @cached_property
    def plan_hash(self) -> str:
        """Hash of the plan."""
        return self.plan.hash

    @cached_property
    def models(self) -> frozenset[str]:
        """Models of which a version has a baseline."""
        return frozenset(model for model, _ in self.layouts)

    @cached_property
    def sensitive_models(self) -> frozenset[str]:
        """Models with a signal whose values nothing may show, by the plan or any baseline."""
        planned = {model for model in self.plan.models if self.plan.sensitive(model)}
        declared = {model for (model, _), own in self.layouts.items() if any(each.sensitive for each in own)}
        return self.withdrawn_sensitive | planned | declared

    @cached_property
    def open_models(self) -> frozenset[str]:
        """Models that have a baseline, and no such signal."""
        return self.models - self.sensitive_models

    def with_baseline(self, baseline: Baseline) -> "Watch":
        """This watch with one more baseline; one that is already known under its effective time replaces it.

        Raises
        ------
        OperatorError
            Where a cap of the plan or the rules for names are broken; the watch stays as it is.
        """
        key = (baseline.model, baseline.version)
        if not all(map(is_name, key)):
            raise OperatorError(f"baseline for {key!r}: names have {NAME_RULE}")
        if key not in self.layouts and len(self.layouts) >= self.plan.max_models:
            raise OperatorError(f"plan.max_models = {self.plan.max_models}: no room for {key!r}; raise it")
        known = self.layouts.get(key, ())
        if any(layout.baseline == baseline for layout in known):
            return self  # said twice: open windows and detectors go on with the layout that they have
        layout = Layout.of(baseline, self.plan)
        check_size(layout)
        same = [each for each in known if each.baseline.effective_from_ms == baseline.effective_from_ms]
        others = [each for each in (*self.replaced.get(key, ()), *same) if each.baseline.hash != baseline.hash]
        ordered = sorted(
            [layout, *(each for each in known if each not in same)], key=lambda each: each.baseline.effective_from_ms
        )
        return replace(
            self,
            layouts={**self.layouts, key: tuple(ordered)},
            replaced={**self.replaced, key: tuple(others[-MAX_REPLACED:])} if others else self.replaced,
            retired=self.retired - {key},
        )

    def without(self, key: ModelKey) -> "Watch":
        """This watch after a tombstone: the model version is watched no longer."""
        kept = [{each: known for each, known in of.items() if each != key} for of in (self.layouts, self.replaced)]
        secret = self.withdrawn_sensitive | ({key[0]} & self.sensitive_models)
        return replace(
            self, layouts=kept[0], replaced=kept[1], retired=self.retired | {key}, withdrawn_sensitive=secret
        )

    def without_superseded(self, closed_ms: int, used: Collection[str]) -> "Watch":
        """This watch without baselines that no window can be counted by any more.

        Parameters
        ----------
        closed_ms
            Every window that ends at or before this is closed, wherever it may be counted.
        used
            Hashes of baselines by which windows or detectors are counting still, or windows wait to be judged.
        """
        layouts: dict[ModelKey, tuple[Layout, ...]] = {}
        for key, known in self.layouts.items():
            ends = [*(each.baseline.effective_from_ms for each in known[1:]), None]
            layouts[key] = tuple(
                each
                for each, end_ms in zip(known, ends, strict=True)
                if end_ms is None or end_ms > closed_ms or each.baseline.hash in used
            )
        replaced = {
            key: kept
            for key, known in self.replaced.items()
            if (kept := tuple(each for each in known if each.baseline.hash in used))
        }
        return replace(self, layouts=layouts, replaced=replaced)

    def effective(self, key: ModelKey, start_ms: int) -> Layout | None:
        """Layout of the newest baseline that is effective at a window's start."""
        known = self.layouts.get(key, ())
        if len(known) == 1 and known[0].baseline.effective_from_ms <= start_ms:
            return known[0]
        place = bisect_right(known, start_ms, key=lambda layout: layout.baseline.effective_from_ms)
        return known[place - 1] if place else None

    def by_hash(self, key: ModelKey, baseline_hash: str) -> Layout | None:
        """Layout of the baseline of that hash."""
        known = (*self.layouts.get(key, ()), *self.replaced.get(key, ()))
        return next((each for each in known if each.baseline.hash == baseline_hash), None)
