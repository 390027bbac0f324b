"""What is watched: the plan and the baselines in force, one frozen value that both steps are handed."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from driftline.detectors.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout import Layout
from driftline.detectors.plan import Plan
from driftline.detectors.records import MAX_NAME, is_name

ModelKey = tuple[str, str]
"""Model and version."""


@dataclass(frozen=True)
class Watch:
    """A plan and the baselines that are known, oldest first per model version.

    Parameters
    ----------
    plan
        The plan.
    layouts
        Per model version its baselines, made ready for counting, in the order in which they become effective.
    """

    plan: Plan
    layouts: Mapping[ModelKey, tuple[Layout, ...]] = field(default_factory=dict)

    @cached_property
    def plan_hash(self) -> str:
        """Hash of the plan."""
        return self.plan.hash

    @cached_property
    def sensitive_models(self) -> frozenset[str]:
        """Models with a signal whose values nothing may show, by the plan or any baseline."""
        planned = {model for model in self.plan.models if self.plan.sensitive(model)}
        return frozenset(
            planned.union(model for (model, _), own in self.layouts.items() if any(x.sensitive for x in own))
        )

    @cached_property
    def open_models(self) -> frozenset[str]:
        """Models that have a baseline, and no such signal."""
        return frozenset({model for model, _ in self.layouts} - self.sensitive_models)

    def with_baseline(self, baseline: Baseline) -> "Watch":
        """This watch with one more baseline; one that is already known under its effective time replaces it.

        Raises
        ------
        OperatorError
            Where a cap of the plan or the rules for names are broken; the watch stays as it is.
        """
        key = (baseline.model, baseline.version)
        if not all(map(is_name, key)):
            raise OperatorError(f"baseline for {key!r}: names have 1 to {MAX_NAME} printable characters and no '|'")
        if key not in self.layouts and len(self.layouts) >= self.plan.max_models:
            raise OperatorError(f"plan.max_models = {self.plan.max_models}: no room for {key!r}; raise it")
        _check_size(baseline, self.plan)
        known = self.layouts.get(key, ())
        if any(layout.baseline == baseline for layout in known):
            return self  # said twice: open windows and detectors go on with the layout that they have
        others = [layout for layout in known if layout.baseline.effective_from_ms != baseline.effective_from_ms]
        ordered = sorted([*others, Layout.of(baseline, self.plan)], key=lambda each: each.baseline.effective_from_ms)
        return replace(self, layouts={**self.layouts, key: tuple(ordered)})

    def effective(self, key: ModelKey, start_ms: int) -> Layout | None:
        """Layout of the newest baseline that is effective at a window's start."""
        known = self.layouts.get(key, ())
        if len(known) == 1 and known[0].baseline.effective_from_ms <= start_ms:
            return known[0]
        place = bisect_right(known, start_ms, key=lambda layout: layout.baseline.effective_from_ms)
        return known[place - 1] if place else None

    def by_hash(self, key: ModelKey, baseline_hash: str) -> Layout | None:
        """Layout of the baseline of that hash."""
        return next((each for each in self.layouts.get(key, ()) if each.baseline.hash == baseline_hash), None)


def _check_size(baseline: Baseline, plan: Plan) -> None:
    """Refuse a baseline whose windows would be larger than the plan allows."""
    key = (baseline.model, baseline.version)
    if len(baseline.signals) > plan.max_signals:
        raise OperatorError(f"plan.max_signals = {plan.max_signals}: {key!r} has {len(baseline.signals)}")
    for name, signal in baseline.signals.items():
        if len(signal.counts) > plan.max_levels:
            raise OperatorError(
                f"plan.max_levels = {plan.max_levels}: signal {name!r} of {key!r} has {len(signal.counts)}"
            )
