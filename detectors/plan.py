"""The plan: what is watched and how strictly. Frozen, validated once at start, handed to both steps.

A rule is looked up from the special to the general: the signal's, the model's, the plan's, the shipped one.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec
import orjson

from driftline.detectors.errors import OperatorError


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one detector is used. A field left out is inherited.

    Parameters
    ----------
    enabled
        Whether the detector runs.
    threshold
        The detector's own: a p-value for tests, a confidence for ADWIN, a distance for distances.
    low, high
        Bounds of the ``range`` constraint in the signal's unit, instead of the baseline's.
    """

    enabled: bool | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None

    def over(self, general: "Rule") -> "Rule":
        """This rule with what it leaves out taken from a more general one."""
        fields = {
            name: general_value if (value := getattr(self, name)) is None else value
            for name, general_value in msgspec.structs.asdict(general).items()
        }
        return Rule(**fields)


class SignalPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Overrides for one signal of one model."""

    detectors: dict[str, Rule] = {}


class ModelPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Overrides for one model, all versions."""

    detectors: dict[str, Rule] = {}
    signals: dict[str, SignalPlan] = {}
    min_rows: int | None = None


_NO_OVERRIDES = ModelPlan()


class AlertPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From windows to alerts.

    Parameters
    ----------
    page_windows, page_of
        An alert turns from ``warning`` to ``critical`` when so many of so many judged windows in a row drift.
    resolve_after
        It is resolved after so many quiet judged windows in a row.
    resolve_without_data
        It is resolved, too, when the fleet has passed so many windows since the last one of its model version.
    """

    page_windows: int = 2
    page_of: int = 3
    resolve_after: int = 3
    resolve_without_data: int = 60


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides a verdict, apart from the log and the baselines.

    Parameters
    ----------
    window_ms
        Length of the tumbling windows.
    lateness_ms
        How far event time may run back before a record is late.
    max_ahead_ms
        How far an event time may be ahead of its record's own Kafka timestamp.
    min_rows
        A window with fewer records is insufficient, never without drift.
    outlier_share
        Share of the baseline's records that rank as outliers; their rate in a window is tested against it.
    events_per_window
        Single-record alerts per model version, kind, window and partition; the rest is counted.
    list_false_discovery
        Level of the Benjamini-Hochberg list of moved signals.
    max_models, max_signals
        Model versions that one worker watches; signals of one baseline.
    max_levels
        Levels of a categorical signal in a baseline, and bins of a numeric one.
    max_open_windows
        Windows of a model version that may be open at once in a partition; the lateness decides how many there are.
    max_provisional_windows
        How many windows idle partitions may hold back from being final.
    default_model
        Model of records that do not name one.
    policy, detectors, models
        Alert policy; rules for all models; overrides per model.
    """

    window_ms: int = 60_000
    lateness_ms: int = 10_000
    max_ahead_ms: int = 60_000
    min_rows: int = 100
    outlier_share: float = 0.01
    events_per_window: int = 3
    list_false_discovery: float = 0.05
    max_models: int = 1_000
    max_signals: int = 2_000
    max_levels: int = 1_000
    max_open_windows: int = 100
    max_provisional_windows: int = 60
    default_model: str | None = None
    policy: AlertPolicy = AlertPolicy()
    detectors: dict[str, Rule] = {}
    models: dict[str, ModelPlan] = {}

    def rule(self, detector: str, model: str = "", signal: str = "") -> Rule:
        """The rule in force for a detector on a signal of a model.

        Examples
        --------
        >>> plan = Plan(models={"churn": ModelPlan(detectors={"marginal": Rule(threshold=0.001)})})
        >>> plan.rule("marginal", "churn", "age").threshold, plan.rule("marginal", "other", "age").threshold
        (0.001, 0.00525)
        """
        rule = DETECTORS[detector]
        for_model = self.models.get(model, _NO_OVERRIDES)
        for special in (self.detectors, for_model.detectors, for_model.signals.get(signal, _NO_OVERRIDES).detectors):
            if detector in special:  # seldom: a worker asks for thousands of rules a second
                rule = special[detector].over(rule)
        return rule

    def threshold(self, detector: str, model: str = "", signal: str = "") -> float | None:
        """Threshold of a detector on a signal of a model; None where it is reported and decides nothing."""
        return self.rule(detector, model, signal).threshold

    def rows_needed(self, model: str) -> int:
        """Records below which a model's window is insufficient."""
        own = self.models.get(model, _NO_OVERRIDES).min_rows
        return self.min_rows if own is None else own

    @property
    def open_windows(self) -> int:
        """Most windows of a model version that the watermark leaves open: ceil((window_ms + lateness_ms) / window_ms).

        Examples
        --------
        Windows of 60 s and a lateness of 10 s: when the second one begins, the first stays open for 10 s more.

        >>> Plan().open_windows
        2
        """
        return -(-(self.window_ms + self.lateness_ms) // self.window_ms)

    @property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the plan as sorted JSON."""
        return _plan_hash(msgspec.json.encode(self))


@cache
def _plan_hash(raw: bytes) -> str:
    document = orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(document).hexdigest()[:16]


def plan_from(document: Mapping[str, Any]) -> Plan:
    """Check a plan as the configuration has it, whole.

    Raises
    ------
    OperatorError
        Naming the key, the value and the remedy.

    Examples
    --------
    >>> plan_from({"window_ms": 0})
    Traceback (most recent call last):
    ...
    driftline.detectors.errors.OperatorError: plan.window_ms = 0: must be at least 1
    """
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        raise OperatorError(f"plan: {error}; `driftline config schema` lists the keys") from error
    for key, least in _LEAST.items():
        if (value := getattr(plan, key)) < least:
            raise OperatorError(f"plan.{key} = {value}: must be at least {least}")
    if plan.open_windows > plan.max_open_windows:
        raise OperatorError(
            f"plan.max_open_windows = {plan.max_open_windows}: lateness_ms = {plan.lateness_ms} keeps up to "
            f"{plan.open_windows} windows of window_ms = {plan.window_ms} open; make them longer, or raise it"
        )
    if not 0 < plan.outlier_share < 0.5:
        raise OperatorError(f"plan.outlier_share = {plan.outlier_share}: must lie between 0 and 0.5")
    for place, rules in _all_rules(plan):
        for name in rules.keys() - DETECTORS.keys():
            raise OperatorError(f"{place}.{name}: no such detector; there are {', '.join(sorted(DETECTORS))}")
        for name, rule in rules.items():
            _check_rule(f"{place}.{name}", name, rule)
    _check_policy(plan.policy)
    return plan


def _check_rule(place: str, detector: str, rule: Rule) -> None:
    """Refuse numbers under which a detector could say nothing, or nothing but yes."""
    if rule.threshold is not None:
        most = 1.0 if detector in _PROBABILITIES else float("inf")
        if not 0 < rule.threshold < most:
            raise OperatorError(f"{place}.threshold = {rule.threshold}: must lie between 0 and {most:g}")
    if rule.low is not None and rule.high is not None and rule.low > rule.high:
        raise OperatorError(f"{place}.low = {rule.low}: must not exceed high = {rule.high}")


def _check_policy(policy: AlertPolicy) -> None:
    for key, value in msgspec.structs.asdict(policy).items():
        if value < 1:
            raise OperatorError(f"plan.policy.{key} = {value}: must be at least 1")
    if policy.page_windows > policy.page_of:
        raise OperatorError(
            f"plan.policy.page_windows = {policy.page_windows}: must be at most page_of = {policy.page_of}"
        )


def _all_rules(plan: Plan) -> list[tuple[str, dict[str, Rule]]]:
    """Every place of the plan where detectors are named."""
    places = [("plan.detectors", plan.detectors)]
    for model, own in plan.models.items():
        places.append((f"plan.models.{model}.detectors", own.detectors))
        places += [(f"plan.models.{model}.signals.{name}.detectors", s.detectors) for name, s in own.signals.items()]
    return places


_LEAST = MappingProxyType(
    {
        "window_ms": 1,
        "lateness_ms": 0,
        "max_ahead_ms": 0,
        "min_rows": 1,
        "events_per_window": 0,
        "max_models": 1,
        "max_signals": 1,
        "max_levels": 1,
        "max_open_windows": 1,
        "max_provisional_windows": 1,
    }
)

_PROBABILITIES = frozenset({"marginal", "adwin", "adwin_scale", "half_space_trees", "outlier_rate"})

# The shipped rules. The window budget of .007 is shared: three quarters to the marginal test of all signals
# (Bonferroni), the rest to the window's rate of outliers.
DETECTORS: Mapping[str, Rule] = MappingProxyType(
    {
        "marginal": Rule(enabled=True, threshold=0.00525),
        "psi": Rule(enabled=True),
        "js": Rule(enabled=True),
        "ks": Rule(enabled=True),
        "wasserstein": Rule(enabled=True),
        "chi2": Rule(enabled=True),
        "missing": Rule(enabled=True),
        "unseen": Rule(enabled=True),
        "adwin": Rule(enabled=True, threshold=2e-5),
        "adwin_scale": Rule(enabled=True, threshold=2e-5),
        "half_space_trees": Rule(enabled=True, threshold=1e-6),
        "outlier_rate": Rule(enabled=True, threshold=0.00175),
        "type": Rule(enabled=True),
        "null": Rule(enabled=True),
        "range": Rule(enabled=True),
        "category": Rule(enabled=True),
        "finite": Rule(enabled=True),
    }
)
