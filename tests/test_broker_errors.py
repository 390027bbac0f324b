"""Requests that fail on purpose, by kind of request: what comes out is what comes out of an undisturbed run."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING

import pytest

from tests.broker_errors import DISTURBANCES, FATAL, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(importlib.util.find_spec("confluent_kafka") is None, reason="needs driftline[embedded]"),
]


@pytest.mark.parametrize(
    ("name", "rounds", "injected"),
    [
        ("produce", 2, 14),
        ("lost-acknowledgements", 3, 3),
        ("fetch", 1, 10),
        ("offset-commit", 1, 5),
        ("list-offsets", 1, 6),
        ("heartbeat", 1, 3),
        ("leaders", 2, 4),
        ("coordinator", 2, 2),
    ],
)
def test_failing_requests_change_nothing(name: str, rounds: int, injected: int, tmp_path: Path) -> None:
    assert name in DISTURBANCES
    found = asyncio.run(run(name, rounds, tmp_path))
    assert found.problems == [], found.worker_log
    assert found.ended == [], found.worker_log
    assert found.injected == injected


@pytest.mark.parametrize("name", ["produce-unknown"])
def test_an_error_for_good_ends_the_worker_and_loses_nothing(name: str, tmp_path: Path) -> None:
    """Without the sink's refusal to go on, marks overtake the partials that were refused: verdicts are missing."""
    assert name in FATAL
    found = asyncio.run(run(name, 1, tmp_path))
    assert found.problems == [], found.worker_log
    assert found.ended == [3], found.worker_log
