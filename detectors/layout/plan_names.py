"""Names that a plan overrides rules for, held against the baselines: a misspelt one would override nothing."""

import difflib
from collections.abc import Iterable, Iterator

from driftline.detectors.documents.baseline import Baseline, NumericSignal
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan, Rule


def unknown_signals(watch: Watch) -> Iterator[str]:
    """Yield a sentence for each signal of the plan that no baseline of its model has.

    Models without a baseline are passed over: theirs may come later.

    Examples
    --------
    >>> from driftline.detectors.baselines.fit import fit
    >>> from driftline.detectors.plan import plan_from
    >>> plan = plan_from({"models": {"churn": {"signals": {"agee": {}, "age": {}}}}})
    >>> list(unknown_signals(Watch(plan).with_baseline(fit("churn", "1", {"age": [1.0, 2.0, 3.0]}))))
    ["plan.models.churn.signals.agee: no baseline of model 'churn' has this signal; did you mean age?"]
    """
    for model, own in watch.plan.models.items():
        known = {
            name for key, found in watch.layouts.items() if key[0] == model for each in found for name in each.signals
        }
        for signal in own.signals:
            if known and signal not in known:
                place = f"plan.models.{model}.signals.{signal}"
                yield f"{place}: no baseline of model {model!r} has this signal; {_meant(signal, known)}"


def unused_bounds(watch: Watch) -> Iterator[str]:
    """Yield a sentence for each signal of the plan that has bounds and is no number in any baseline of its model.

    Examples
    --------
    >>> from driftline.detectors.baselines.fit import fit
    >>> from driftline.detectors.plan import plan_from
    >>> plan = plan_from({"models": {"churn": {"signals": {"plan": {"detectors": {"range": {"low": 0.0}}}}}}})
    >>> list(unused_bounds(Watch(plan).with_baseline(fit("churn", "1", {"plan": ["basic", "pro"]}))))
    ['plan.models.churn.signals.plan.detectors.range: this signal is categorical, bounds are for numbers; leave them out']
    """
    for model, own in watch.plan.models.items():
        layouts = [each for key, found in watch.layouts.items() if key[0] == model for each in found]
        for signal, special in own.signals.items():
            rule = special.detectors.get("range", Rule())
            kinds = [type(each.baseline.signals[signal]) for each in layouts if signal in each.baseline.signals]
            if (rule.low, rule.high) != (None, None) and kinds and NumericSignal not in kinds:
                place = f"plan.models.{model}.signals.{signal}.detectors.range"
                yield f"{place}: this signal is categorical, bounds are for numbers; leave them out"


def exposed_signals(watch: Watch) -> Iterator[str]:
    """Yield a sentence for each signal that the plan declares sensitive and a baseline of its model holds openly.

    Examples
    --------
    >>> from driftline.detectors.baselines.fit import fit
    >>> from driftline.detectors.plan import plan_from
    >>> plan = plan_from({"models": {"churn": {"signals": {"plan": {"sensitive": True}}}}})
    >>> list(exposed_signals(Watch(plan).with_baseline(fit("churn", "1", {"plan": ["basic", "pro"]}))))
    ["plan.models.churn.signals.plan.sensitive: baseline churn|1 shows the signal's values; build it again with --sensitive"]
    """
    for known in watch.layouts.values():
        for layout in known:
            yield from exposed_by(layout.baseline, watch.plan)


def exposed_by(baseline: Baseline, plan: Plan) -> Iterator[str]:
    """Yield such a sentence for each of one baseline's signals."""
    for name in sorted(plan.sensitive(baseline.model) & baseline.signals.keys()):
        if not baseline.signals[name].sensitive:
            place = f"plan.models.{baseline.model}.signals.{name}.sensitive"
            about = f"baseline {baseline.model}|{baseline.version} shows the signal's values"
            yield f"{place}: {about}; build it again with --sensitive"


def unknown_models(watch: Watch) -> Iterator[str]:
    """Yield a sentence for each model of the plan that has no baseline.

    Examples
    --------
    >>> from driftline.detectors.plan import plan_from
    >>> list(unknown_models(Watch(plan_from({"models": {"churn": {"min_rows": 50}}}))))
    ["plan.models.churn: no baseline is of model 'churn'; there is no baseline yet"]
    """
    known = {model for model, _ in watch.layouts}
    for model in watch.plan.models.keys() - known:
        meant = _meant(model, known) if known else "there is no baseline yet"
        yield f"plan.models.{model}: no baseline is of model {model!r}; {meant}"


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the nearest names, the nearest first."""
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(sorted(known)[:10])}"
