"""Fixtures that several test files share."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whatever starts the tests in the background may have it ignored, and all that they start and interrupt would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

KAFKA_SCRIPT = Path(__file__).parents[1] / "scripts" / "kafka"


@pytest.fixture(scope="session")
def java_and_maven() -> None:
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"a real Kafka needs {program} on the PATH")


@pytest.fixture(scope="session")
def kafka(java_and_maven: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:  # noqa: ARG001 - it skips
    """Bootstrap address of a real broker of one node, the same for the whole session: choose topic names of your own."""
    directory = tmp_path_factory.mktemp("kafka")
    script = [sys.executable, str(KAFKA_SCRIPT)]
    try:
        up = subprocess.run(
            [*script, "up", "--dir", directory, "--port", "0"], check=True, stdout=subprocess.PIPE, text=True
        )
        yield up.stdout.strip()
    finally:
        subprocess.run([*script, "down", "--dir", directory], check=True)


# How long an example takes depends on what else the machine does.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
# Ten thousand schedules instead of some hundreds: pytest --hypothesis-profile=chaos tests/test_crashes.py
settings.register_profile("chaos", parent=settings.get_profile("patient"), max_examples=10_000, print_blob=True)
