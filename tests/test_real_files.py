"""A real file that needs no network, from file to final verdicts; the others are `make real-files`."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from driftline.streams.demo.embedded import embedded_broker
from tests.fleet import settings_for, topic_sizes
from tests.real_archives import cut, halves, joined, lines_of, write
from tests.real_files import PARTITIONS, Run, problems, run
from tests.real_tables import FILES

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[1] / "docs" / "real-files.md"


@pytest.mark.embedded
def test_the_file_that_river_ships_comes_to_final_verdicts_without_a_false_alarm(tmp_path: Path) -> None:
    sizes = topic_sizes(settings_for("unused:1", "phishing", tmp_path)[0], PARTITIONS)
    with embedded_broker(sizes) as broker:
        found = run("phishing", broker.bootstrap_servers, tmp_path, has_topics=True)
    assert problems("phishing", found) == []
    assert (found.trained, found.rows, len(found.judged)) == (625, 625, 5)


def verdict(**changes: Any) -> dict[str, Any]:
    whole = {"n": 5, "late": 0, "final": True, "drift": False, "signals": {}, "window": {"start_ms": 0, "end_ms": 10}}
    return whole | changes


def phishing(**changes: Any) -> Run:
    """A run that is as it must be, or not."""
    whole: dict[str, Any] = {"schema": FILES["phishing"].schema, "rows": 5, "verdicts": [verdict()]}
    return Run(**whole | changes)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (phishing(), []),
        (phishing(dead_letters=2), ["2 dead letters"]),
        (phishing(rows=6), ["5 records counted of 6"]),
        (phishing(verdicts=[verdict(late=1)]), ["there are late records"]),
        (phishing(verdicts=[verdict(final=False)]), ["a verdict is not final"]),
        (phishing(verdicts=[verdict(drift=None)]), ["no window was judged"]),
        (phishing(verdicts=[verdict(drift=True)]), ["the window of 1970-01-01 00:00 () drifts"]),
        (phishing(alerts=[{"summary": "so", "window": {"end_ms": 10}}]), ["so"]),
        (phishing(schema=FILES["phishing"].schema | {"https": "text"}), ["https: text"]),
    ],
)
def test_what_is_not_as_it_must_be_is_told(found: Run, wrong: list[str]) -> None:
    assert problems("phishing", found) == wrong


@pytest.mark.parametrize("start_ms", [None, 0, 10**13])
def test_where_a_change_is_known_windows_before_it_are_quiet_and_windows_behind_it_are_not(
    start_ms: int | None,
) -> None:
    changed_ms = FILES["car_loan"].drifts_ms
    assert changed_ms is not None
    start = changed_ms if start_ms is None else start_ms
    for drift in (True, False):
        one = verdict(drift=drift, window={"start_ms": start, "end_ms": start + 1})
        told = problems("car_loan", Run(schema=FILES["car_loan"].schema, rows=5, verdicts=[one]))
        assert bool(told) == (drift == (start < changed_ms))


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
@pytest.mark.parametrize("parts", [halves, lambda path, directory: cut(path, directory, 5)])
def test_both_parts_of_a_file_have_its_first_line_and_together_its_rows(
    name: str, parts: Callable[[Path, Path], tuple[Path, Path]], tmp_path: Path
) -> None:
    rows = [f"{each},x" for each in range(11)]
    first, second = parts(write(tmp_path / name, ["a,b", *rows]), tmp_path)
    (head, *some), (same, *others) = lines_of(first), lines_of(second)
    assert head == same == "a,b"
    assert (len(some), sorted([*some, *others])) == (5, sorted(rows))
    assert name.endswith(".gz") == (first.read_bytes()[:2] == gzip.compress(b"")[:2])


def test_a_column_of_another_file_is_put_behind_the_last_one(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a", ["id,x", '1,"a, b"', "2,"]), write(tmp_path / "b", ["id,y", "1,0", "2,1"])
    assert lines_of(joined(one, other)) == ["id,x,y", '1,"a, b",0', "2,,1"]


def test_the_page_has_a_row_for_every_file() -> None:
    assert re.findall(r"^\| (\S+) \(", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == [*FILES]
