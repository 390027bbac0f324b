from __future__ import annotations

from typing import Any

from driftline.detectors.layout.plan_names import unknown_models, unknown_signals, unused_bounds
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import plan_from
from tests.logs import churn, fraud, watching


def plan(**models: list[str]) -> Watch:
    table: dict[str, dict[str, dict[str, Any]]] = {
        model: {"signals": {name: {} for name in signals}} for model, signals in models.items()
    }
    return Watch(plan_from({"models": table}))


def test_a_misspelt_signal_is_told_with_the_nearest_name() -> None:
    watch = watching(plan(churn=["agee", "income"], fraud=["merchant", "prediction"]).plan, churn(), fraud())
    (sentence,) = unknown_signals(watch)
    assert sentence.startswith("plan.models.churn.signals.agee: ")
    assert sentence.endswith("did you mean age?")


def test_a_signal_of_any_version_is_known() -> None:
    watch = watching(plan(churn=["prediction.leaves", "age"]).plan, churn("1"), churn("2"))
    known = {name for layouts in watch.layouts.values() for each in layouts for name in each.signals}
    assert "age" in known
    assert [each for each in unknown_signals(watch) if "age:" in each] == []


def test_a_model_without_a_baseline_is_told_and_its_signals_are_not() -> None:
    watch = watching(plan(chrun=["agee"]).plan, churn())
    assert list(unknown_signals(watch)) == []
    (sentence,) = unknown_models(watch)
    assert "plan.models.chrun" in sentence
    assert sentence.endswith("did you mean churn?")


def test_bounds_of_a_category_are_told_and_those_of_a_number_are_not() -> None:
    bounds = {"detectors": {"range": {"low": 0.0}}}
    table = {"churn": {"signals": {"age": bounds, "country": bounds, "nobody": bounds}}}
    (sentence,) = unused_bounds(watching(plan_from({"models": table}), churn()))
    assert sentence.startswith("plan.models.churn.signals.country.detectors.range: this signal is categorical")
