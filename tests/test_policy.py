from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.plan import AlertPolicy
from driftline.detectors.verdicts.policy import Standing, is_idle, judge

YES, NO = True, False
SHIPPED = AlertPolicy()


def told(windows: list[bool], policy: AlertPolicy = SHIPPED) -> list[str | None]:
    standing, transitions = Standing(), list[str | None]()
    for drifted in windows:
        standing, transition = judge(policy, standing, drifted=drifted)
        transitions.append(transition)
    return transitions


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([NO, NO, NO], [None, None, None]),
        ([YES], ["fires"]),
        ([YES, YES], ["fires", "escalates"]),
        ([YES, NO, YES], ["fires", None, "escalates"]),
        ([YES, NO, NO, YES], ["fires", None, None, None]),
        ([YES, NO, NO, YES, YES], ["fires", None, None, None, "escalates"]),
        ([YES, YES, YES, YES], ["fires", "escalates", None, None]),
    ],
)
def test_an_alert_fires_at_once_and_becomes_a_page_when_two_of_three_windows_drift(
    windows: list[bool], expected: list[str | None]
) -> None:
    assert told(windows) == expected


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([YES, NO, NO, NO], ["fires", None, None, "resolves"]),
        ([YES, YES, NO, NO, NO, NO], ["fires", "escalates", None, None, "resolves", None]),
        ([YES, NO, NO, YES, NO, NO, NO], ["fires", None, None, None, None, None, "resolves"]),
        ([YES, NO, NO, NO, YES], ["fires", None, None, "resolves", "fires"]),
    ],
)
def test_an_alert_is_resolved_after_three_quiet_windows_in_a_row_and_may_fire_anew(
    windows: list[bool], expected: list[str | None]
) -> None:
    assert told(windows) == expected


def test_a_policy_of_one_window_pages_at_once_and_never_escalates() -> None:
    policy = AlertPolicy(page_windows=1, page_of=1, resolve_after=1)
    standing, transition = judge(policy, Standing(), drifted=True)
    assert (standing.severity, transition) == ("critical", "fires")
    assert told([YES, YES, NO, YES], policy) == ["fires", None, "resolves", "fires"]


@given(
    windows=st.lists(st.booleans(), max_size=60),
    policy=st.builds(AlertPolicy, st.integers(1, 4), st.integers(1, 6), st.integers(1, 5)),
)
def test_whatever_comes_an_open_alert_was_fired_once_and_escalates_at_most_once(
    windows: list[bool], policy: AlertPolicy
) -> None:
    is_open = is_page = False
    for drifted, transition in zip(windows, told(windows, policy), strict=True):
        assert transition is None or (transition == "fires") != is_open
        assert transition != "escalates" or not is_page
        assert transition != "resolves" or not drifted
        is_open = (is_open or transition == "fires") and transition != "resolves"
        is_page = (is_page or transition == "escalates") and is_open
        assert is_open or not drifted


@given(windows=st.lists(st.booleans(), min_size=1, max_size=30))
def test_history_is_short_and_forgotten_when_nothing_is_left_of_it(windows: list[bool]) -> None:
    standing = Standing()
    for drifted in windows:
        standing, _ = judge(AlertPolicy(), standing, drifted=drifted)
        assert len(standing.recent) <= 3
    for _ in range(3):
        standing, _ = judge(AlertPolicy(), standing, drifted=False)
    assert is_idle(standing)
