"""The pages quote what was measured: every figure is rendered from docs/curves.json."""

from __future__ import annotations

import copy
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs" / "curves.json").read_text())
PAGES = ("benchmarks.md", "sizing.md")


@pytest.fixture(scope="module")
def report() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("curves_report")


@pytest.fixture(scope="module")
def latency() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield importlib.import_module("latency")


def published(report: Any, document: dict[str, Any], docs: Path) -> dict[str, str]:
    """Return the pages and the plot as the command writes them, from pages as they are."""
    for page in PAGES:
        (docs / page).write_text((ROOT / "docs" / page).read_text())
    (docs / "curves.json").write_text(json.dumps(document))
    report.publish_curves(docs)
    return {name: (docs / name).read_text() for name in (*PAGES, "curves.svg")}


def test_the_pages_show_what_was_measured(report: Any, tmp_path: Path) -> None:
    assert set(report.BLOCKS) == set(PAGES)
    for name, text in published(report, DOCUMENT, tmp_path).items():
        assert text == (ROOT / "docs" / name).read_text(), f"docs/{name}: run `python benchmarks/curves.py --render`"


def test_a_page_follows_when_a_figure_changes(report: Any, tmp_path: Path) -> None:
    other = copy.deepcopy(DOCUMENT)
    for point in other["points"]:
        point["cpu_us"] *= 2
    for name, text in published(report, other, tmp_path).items():
        assert text != (ROOT / "docs" / name).read_text()


def test_the_cost_of_a_verdict_is_what_shorter_windows_add(report: Any) -> None:
    points = [
        {"setting": {"models": 100, "window_records": 10_000}, "cpu_us": 30.0},
        {"setting": {"models": 100, "window_records": 100_000}, "cpu_us": 12.0},
    ]
    document = {"points": points, "curves": {"window_records": [point["setting"] for point in points]}}
    # 100 / 10 000 and 100 / 100 000 verdicts a record: 0.009 more cost 18 us more.
    assert report.verdict_us(document) == pytest.approx(2_000)


@pytest.mark.parametrize(("measured", "said"), [(1.6, "held"), (1.61, "**not held**"), (float("inf"), "**not held**")])
def test_a_bar_says_whether_it_was_held(report: Any, measured: float, said: str) -> None:
    assert report.Bar("cost", measured, 1.6, " x").row.endswith(f"| {said} |")


def heard(latency: Any) -> Any:
    """Return a run of ten seconds in ticks of 20 ms on two partitions, the second acknowledged later."""
    start = 1_000_000
    ticks = [start + 20 * tick for tick in range(500)]
    found = latency.Heard()
    found.acknowledged_ms = {0: [(tick, tick + 5.0) for tick in ticks], 1: [(tick, tick + 40.0) for tick in ticks]}
    found.alerts_ms = [(tick, tick + 30.0) for tick in ticks]
    found.behind_ms = [1.0] * len(ticks)
    found.verdicts_ms = {end: at + 70.0 for end, at in latency.due_ms(found).items()}
    return found


def test_a_window_is_due_when_its_last_partition_has_passed_it(latency: Any) -> None:
    assert (latency.WINDOW_MS, latency.LATENESS_MS, latency.WARM_S) == (1_000, 500, 3.0)
    # Ends after the warm-up, the last one 500 ms before the last record.
    assert latency.due_ms(heard(latency)) == {end: end + 500 + 40.0 for end in range(1_004_000, 1_010_000, 1_000)}


def test_latencies_are_told_by_their_quantiles(latency: Any) -> None:
    found = latency.summary(heard(latency))
    assert (found["alert_p50_ms"], found["alert_p99_ms"], found["window_max_ms"]) == (30.0, 30.0, 70.0)
    assert (found["alerts"], found["windows"]) == (350, 6)


def test_what_never_came_is_infinitely_late(latency: Any) -> None:
    run = heard(latency)
    del run.alerts_ms[-5:], run.verdicts_ms[1_009_000]
    found = latency.summary(run)
    assert found["alert_p99_ms"] is found["window_max_ms"] is None
    assert found["alert_p50_ms"] == 30.0
