"""The plan: what is watched and how strictly. Frozen, validated once at start, handed to both steps.

A rule is looked up from the special to the general: the signal's, the model's, the plan's, the shipped one.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Meta

from driftline.detectors.errors import OperatorError
from driftline.detectors.validation import validated

# Upper bounds are far beyond use and far below where int64 arithmetic on event times would wrap.
Length = Annotated[int, Meta(ge=1, le=366 * 86_400_000)]
Lateness = Annotated[int, Meta(ge=0, le=366 * 86_400_000)]
Ahead = Annotated[int, Meta(ge=0, le=100 * 366 * 86_400_000)]
Count = Annotated[int, Meta(ge=1, le=10**6)]
CountFromZero = Annotated[int, Meta(ge=0, le=10**6)]
Rows = Annotated[int, Meta(ge=1, le=10**9)]
Windows = Annotated[int, Meta(ge=1, le=1_000)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
Positive = Annotated[float, Meta(gt=0, le=1e300)]
Name = Annotated[str, Meta(pattern=r"^[^|\x00-\x1f\x7f]{1,128}$")]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one detector is used. A field left out is inherited.

    Parameters
    ----------
    enabled
        Whether the detector runs.
    threshold
        The detector's own: a p-value for tests, a confidence for ADWIN, a distance for distances, a share of records.
    low, high
        Bounds of the ``range`` constraint in the signal's unit, instead of the baseline's.
    """

    enabled: bool | None = None
    threshold: Positive | None = None
    low: Finite | None = None
    high: Finite | None = None

    def over(self, general: "Rule") -> "Rule":
        """This rule with what it leaves out taken from a more general one."""
        fields = {
            name: general_value if (value := getattr(self, name)) is None else value
            for name, general_value in msgspec.structs.asdict(general).items()
        }
        return Rule(**fields)


class SignalPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Overrides for one signal of one model; of a ``sensitive`` one no output may show a value."""

    detectors: dict[str, Rule] = {}
    sensitive: bool = False


class ModelPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Overrides for one model, all versions."""

    detectors: dict[str, Rule] = {}
    signals: dict[str, SignalPlan] = {}
    min_rows: Rows | None = None


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

    page_windows: Windows = 2
    page_of: Windows = 3
    resolve_after: Windows = 3
    resolve_without_data: Count = 60


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides a verdict, apart from the log and the baselines.

    Parameters
    ----------
    window_ms
        Length of the tumbling windows.
    lateness_ms
        How far event time may run back before a record is late.
    idle_after_ms
        How long nothing must be appended to a partition before the others' windows become final without it.
    max_ahead_ms
        How far an event time may be ahead of its record's own Kafka timestamp.
    min_rows
        A window with fewer records is insufficient, never without drift.
    outlier_share
        Share of the baseline's records that rank as outliers; their rate in a window is tested against it.
    events_per_million
        False alerts on single records that a million records may bring, per kind of violation.
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
        How many windows a partition that closes none holds back from being final; with CreateTime, an idle one too.
    default_model
        Model of records that do not name one.
    policy, detectors, models
        Alert policy; rules for all models; overrides per model.
    """

    window_ms: Length = 60_000
    lateness_ms: Lateness = 10_000
    idle_after_ms: Length = 30_000
    max_ahead_ms: Ahead = 60_000
    min_rows: Rows = 100
    outlier_share: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    events_per_million: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0
    events_per_window: CountFromZero = 3
    list_false_discovery: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    max_models: Count = 1_000
    max_signals: Count = 2_000
    max_levels: Count = 1_000
    max_open_windows: Count = 100
    max_provisional_windows: Count = 60
    default_model: Name | None = None
    policy: AlertPolicy = AlertPolicy()
    detectors: dict[str, Rule] = {}
    models: dict[Name, ModelPlan] = {}

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

    def sensitive(self, model: str) -> frozenset[str]:
        """Signals of a model whose values no output may show, as far as the plan declares them."""
        return frozenset(name for name, own in self.models.get(model, _NO_OVERRIDES).signals.items() if own.sensitive)

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
    driftline.detectors.errors.Misfit: plan.window_ms = 0: expected `int` >= 1
    """
    plan = validated(document, Plan, ("plan",))
    if plan.open_windows > plan.max_open_windows:
        raise OperatorError(
            f"plan.max_open_windows = {plan.max_open_windows}: lateness_ms = {plan.lateness_ms} keeps up to "
            f"{plan.open_windows} windows of window_ms = {plan.window_ms} open; make them longer, or raise it"
        )
    if plan.policy.page_windows > plan.policy.page_of:
        raise OperatorError(
            f"plan.policy.page_windows = {plan.policy.page_windows}: must be at most page_of = {plan.policy.page_of}"
        )
    for place, rules in _all_rules(plan):
        for name, rule in rules.items():
            _check_rule(place, name, rule)
    return plan


def _check_rule(place: str, detector: str, rule: Rule) -> None:
    """Refuse what a detector does not use, and numbers under which it could say nothing, or nothing but yes."""
    key = f"{place}.{detector}"
    if detector not in DETECTORS:
        raise OperatorError(f"{key}: no such detector; there are {', '.join(sorted(DETECTORS))}")
    if detector in _WHOLE and ".signals." in place:
        raise OperatorError(
            f"{key}: looks at records as a whole; set it in {place.partition('.signals.')[0]}.detectors"
        )
    used = _FIELDS.get(detector, ())
    for field in ("threshold", "low", "high"):
        if (value := getattr(rule, field)) is not None and field not in used:
            takes = " and ".join(("enabled", *used))
            raise OperatorError(f"{key}.{field} = {value}: {detector} does not use it; it takes {takes}")
    if rule.threshold is not None and detector in _PROBABILITIES and rule.threshold >= 1:
        raise OperatorError(f"{key}.threshold = {rule.threshold}: must lie between 0 and 1")
    if rule.low is not None and rule.high is not None and rule.low > rule.high:
        raise OperatorError(f"{key}.low = {rule.low}: must not exceed high = {rule.high}")


def _all_rules(plan: Plan) -> list[tuple[str, dict[str, Rule]]]:
    """Every place of the plan where detectors are named."""
    places = [("plan.detectors", plan.detectors)]
    for model, own in plan.models.items():
        places.append((f"plan.models.{model}.detectors", own.detectors))
        places += [(f"plan.models.{model}.signals.{name}.detectors", s.detectors) for name, s in own.signals.items()]
    return places


_PROBABILITIES = frozenset(
    {"marginal", "adwin", "adwin_scale", "half_space_trees", "joint_range", "outlier_rate", "late_share"}
)
_WHOLE = frozenset({"half_space_trees", "joint_range", "outlier_rate", "late_share"})
_DISTANCES = frozenset({"psi", "js", "ks", "wasserstein", "chi2"})
_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {**dict.fromkeys(_PROBABILITIES | _DISTANCES, ("threshold",)), "range": ("low", "high")}
)
"""What a rule takes beside ``enabled``."""

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
        "joint_range": Rule(enabled=True, threshold=1e-6),
        "outlier_rate": Rule(enabled=True, threshold=0.00175),
        "late_share": Rule(enabled=True, threshold=0.2),
        "type": Rule(enabled=True),
        "null": Rule(enabled=True),
        "range": Rule(enabled=True),
        "category": Rule(enabled=True),
        "finite": Rule(enabled=True),
    }
)
