import re
from math import inf, nan
from typing import Any

import msgspec
import pytest

from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.constraints import CONSTRAINTS
from driftline.detectors.online.adwin_streams import STREAMS
from driftline.detectors.plan import _DISTANCES, DETECTORS, Plan, plan_from
from driftline.detectors.statistics.distances import DISTANCES

LAYERED = plan_from(
    {
        "detectors": {"marginal": {"threshold": 0.1}, "psi": {"enabled": False}},
        "models": {
            "churn": {
                "min_rows": 7,
                "detectors": {"marginal": {"threshold": 0.2}},
                "signals": {"age": {"detectors": {"marginal": {"enabled": False}, "psi": {"enabled": True}}}},
            }
        },
    }
)


def test_a_rule_is_looked_up_from_the_special_to_the_general_field_by_field() -> None:
    assert LAYERED.threshold("marginal", "other", "age") == 0.1
    assert LAYERED.threshold("marginal", "churn", "income") == 0.2
    assert LAYERED.threshold("marginal", "churn", "age") == 0.2
    assert LAYERED.rule("marginal", "churn", "income").enabled
    assert not LAYERED.rule("marginal", "churn", "age").enabled
    assert not LAYERED.rule("psi", "churn", "income").enabled
    assert LAYERED.rule("psi", "churn", "age").enabled
    assert LAYERED.threshold("adwin", "churn", "age") == DETECTORS["adwin"].threshold
    assert (LAYERED.rows_needed("churn"), LAYERED.rows_needed("other")) == (7, 100)


def test_every_detector_has_a_shipped_rule() -> None:
    others = {"marginal", "missing", "unseen", "half_space_trees", "joint_range", "outlier_rate", "late_share"}
    assert DETECTORS.keys() == {*DISTANCES, *CONSTRAINTS, *STREAMS, *others}
    assert DISTANCES.keys() == _DISTANCES  # or a rule could give the missing one no threshold


def test_the_window_budget_is_shared_out_whole_and_no_distance_decides() -> None:
    plan = Plan()
    budget = (plan.threshold("marginal") or 0) + (plan.threshold("outlier_rate") or 0)
    assert budget == pytest.approx(0.007)
    assert {plan.threshold(distance) for distance in DISTANCES} == {None}


def test_the_hash_tells_plans_apart_and_nothing_else() -> None:
    same = plan_from(msgspec.to_builtins(LAYERED))
    assert same.hash == LAYERED.hash
    variants = [Plan(), Plan(window_ms=30_000), Plan(min_rows=50), LAYERED, plan_from({"policy": {"resolve_after": 2}})]
    assert len({plan.hash for plan in variants}) == len(variants)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"window_ms": 0}, "plan.window_ms = 0"),
        ({"lateness_ms": -1}, "plan.lateness_ms = -1"),
        ({"min_rows": 0}, "plan.min_rows = 0"),
        ({"outlier_share": 0.5}, "plan.outlier_share = 0.5"),
        ({"lateness_ms": 6_000_000}, "plan.max_open_windows = 100: lateness_ms = 6000000 keeps up to 101 windows"),
        ({"windowms": 1}, "windowms"),
        ({"window_ms": "a minute"}, "plan.window_ms = 'a minute': expected `int`, got `str`"),
        ({"list_false_discovery": 7}, "plan.list_false_discovery = 7: expected `float` < 1.0"),
        ({"list_false_discovery": -1}, "plan.list_false_discovery = -1: expected `float` > 0.0"),
        ({"list_false_discovery": nan}, "plan.list_false_discovery = nan: expected `float` > 0.0"),
        ({"models": {"a.b": {"min_rows": -5}}}, "plan.models.a.b.min_rows = -5: expected `int` >= 1"),
        ({"window_ms": 2**62}, f"plan.window_ms = {2**62}: expected `int` <= 31622400000"),
        ({"default_model": "a|b"}, "plan.default_model = 'a|b'"),
        ({"models": {"a|b": {"min_rows": 5}}}, "plan.models = {'a|b': {'min_rows': 5}}: expected `str` matching regex"),
        ({"models": {"": {}}}, "plan.models = {'': {}}: expected `str` matching regex"),
        (
            {"detectors": {"range": {"threshold": 3}}},
            "range.threshold = 3.0: range does not use it; it takes enabled and",
        ),
        ({"detectors": {"type": {"threshold": 3}}}, "plan.detectors.type.threshold = 3.0: type does not use it"),
        ({"detectors": {"psi": {"low": 3}}}, "plan.detectors.psi.low = 3.0: psi does not use it"),
        ({"detectors": {"range": {"high": inf}}}, "plan.detectors.range.high = inf: expected `float` <= 1e+300"),
        (
            {"models": {"m": {"signals": {"x": {"detectors": {"outlier_rate": {"enabled": False}}}}}}},
            "plan.models.m.signals.x.detectors.outlier_rate: looks at records as a whole; set it in plan.models.m.detectors",
        ),
        ({"detectors": {"marginl": {}}}, "plan.detectors.marginl: no such detector; there are adwin"),
        ({"models": {"churn": {"detectors": {"x": {}}}}}, "plan.models.churn.detectors.x"),
        (
            {"models": {"churn": {"signals": {"age": {"detectors": {"x": {}}}}}}},
            "plan.models.churn.signals.age.detectors.x",
        ),
        ({"detectors": {"psi": {"treshold": 1}}}, "treshold"),
        ({"detectors": {"marginal": {"threshold": 5}}}, "plan.detectors.marginal.threshold = 5.0"),
        ({"detectors": {"psi": {"threshold": 0}}}, "plan.detectors.psi.threshold = 0: expected `float` > 0.0"),
        ({"detectors": {"range": {"low": 2, "high": 1}}}, "plan.detectors.range.low = 2.0"),
        ({"policy": {"resolve_after": 0}}, "plan.policy.resolve_after = 0"),
        ({"policy": {"page_windows": 4}}, "plan.policy.page_windows = 4: must be at most page_of = 3"),
    ],
)
def test_what_a_plan_cannot_be_is_refused_by_its_key(document: dict[str, Any], named: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(named)):
        plan_from(document)
