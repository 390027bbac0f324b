from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.documents.alerts import Alert, Origin, Window, digest

WINDOW = Alert(
    state="firing", kind="drift", severity="warning", model="m", version="1", signal="x", detector="marginal",
    value=0.001, threshold=0.005, n=500, window=Window(0, 60_000), time_ms=60_000, baseline="b", plan="p", summary="",
).identified()  # fmt: skip
RECORD = msgspec.structs.replace(
    WINDOW, state="event", kind="data_quality", detector="range", n=1, origin=Origin("predictions", 2, 17)
).identified()


def changed(alert: Alert, **fields: Any) -> Alert:
    return msgspec.structs.replace(alert, **fields).identified()


@pytest.mark.parametrize("alert", [WINDOW, RECORD])
@pytest.mark.parametrize("fields", [{"value": 0.5}, {"final": False}, {"summary": "?"}, {"n": 3}, {"p_value": 0.1}])
def test_what_was_measured_is_no_part_of_an_alerts_identity(alert: Alert, fields: dict[str, Any]) -> None:
    assert changed(alert, **fields).id == alert.id
    assert changed(alert, **fields).fingerprint == alert.fingerprint


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "resolved"},
        {"severity": "critical"},
        {"window": Window(60_000, 120_000)},
        {"baseline": "c"},
        {"plan": "q"},
    ],
)
def test_another_moment_of_the_same_subject_is_another_alert_under_the_same_fingerprint(fields: dict[str, Any]) -> None:
    assert changed(WINDOW, **fields).fingerprint == WINDOW.fingerprint
    assert changed(WINDOW, **fields).id != WINDOW.id


@pytest.mark.parametrize("fields", [{"model": "n"}, {"version": "2"}, {"kind": "outlier"}, {"signal": "y"}])
def test_another_subject_has_another_fingerprint(fields: dict[str, Any]) -> None:
    assert changed(WINDOW, **fields).fingerprint != WINDOW.fingerprint


@pytest.mark.parametrize(
    "origin", [Origin("predictions", 2, 18), Origin("predictions", 3, 17), Origin("others", 2, 17)]
)
def test_an_event_is_told_apart_by_its_record(origin: Origin) -> None:
    assert changed(RECORD, origin=origin).id != RECORD.id


def test_one_record_may_break_two_constraints_and_be_read_under_another_plan() -> None:
    assert changed(RECORD, detector="null").id != RECORD.id
    assert changed(RECORD, plan="q", baseline="c").id == RECORD.id


def test_which_detector_saw_a_drift_does_not_matter() -> None:
    assert changed(WINDOW, detector="psi").id == WINDOW.id


@given(first=st.lists(st.text(max_size=3), max_size=3), second=st.lists(st.text(max_size=3), max_size=3))
def test_different_parts_have_different_digests_however_they_are_split(first: list[str], second: list[str]) -> None:
    assert (digest(*first) == digest(*second)) == (first == second)
