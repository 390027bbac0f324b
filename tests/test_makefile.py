from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("needs make")
    # The environment that runs this test need not be the one that make would build.
    return subprocess.run(
        ["make", "--no-print-directory", "-o", ".venv/.ready", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_night_runs_everything_and_fails_if_anything_failed() -> None:
    done = make("nightly", "NIGHTLY=help no-such-target help")
    rows = [re.split(r" +", line)[:2] for line in done.stdout.splitlines() if ".cache/nightly" in line]
    assert rows == [["help", "passed"], ["no-such-target", "FAILED"], ["help", "passed"]]
    assert done.returncode != 0
    assert make("nightly", "NIGHTLY=help").returncode == 0


def test_the_night_holds_what_there_is() -> None:
    listed = re.findall(r"^([a-z-]+) ", make("help").stdout, re.MULTILINE)
    assert {"laws", "chaos", "nightly"} <= set(listed)
    printed = make("--eval", "print-nightly: ; @echo $(NIGHTLY)", "print-nightly").stdout.split()
    assert {"laws", "chaos"} <= set(printed) <= set(listed)
