"""The demo itself, small: a real worker process on the embedded broker."""

from __future__ import annotations

from itertools import pairwise

import pytest

from driftline.streams.demo import run
from driftline.streams.demo.run import DemoFailed, Scale, run_demo

SMALL = Scale(training_rows=3_000, window_rows=300, clean=4, faulty=2, pause=3, pace_s=0.0)


@pytest.mark.embedded
def test_a_small_demo_runs_and_tells_what_was_found() -> None:
    said: list[str] = []
    run_demo(SMALL, said.append)
    report = said[said.index("") :]
    assert "29 windows judged, 8700 records in them" in report
    assert "clean half: 4 windows, no alert" in report
    starts = [next(place for place, line in enumerate(report) if line.startswith(name)) for name in FOUND]
    assert all(earlier < later for earlier, later in pairwise(starts))
    assert all("NOT FOUND" not in report[start] for start in starts[:-1])


@pytest.mark.embedded
def test_a_worker_that_ends_by_itself_fails_the_demo_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.ENVIRONMENT, "DRIFTLINE_WORKER__METRICS_HOST", "203.0.113.1")  # no address of ours
    with pytest.raises(DemoFailed, match=r"(?s)worker ended by itself.*203"):
        run_demo(SMALL, lambda _: None)


FOUND = ("income arrives net", "3 % of purposes", "20 % of months_employed", "2 ages a window", "monthly_spending")
