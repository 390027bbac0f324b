"""The windows that peers of the benchmark report on as tables hold every record, and each once."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import random
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
WINDOW_MS = 60_000
PARTITIONS, WINDOW_RECORDS, RECORDS = 4, 50, 320
"""Six windows and a part of a seventh."""


@pytest.fixture(scope="module")
def modules() -> Iterator[tuple[Any, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("tables"), importlib.import_module("generator")


@pytest.fixture(scope="module")
def log(modules: tuple[Any, Any]) -> list[bytes]:
    _, generator = modules
    return list(generator.values(generator.Work(RECORDS, numeric=2, categorical=1, window_records=WINDOW_RECORDS)))


def expected(log: list[bytes]) -> list[list[dict[str, Any]]]:
    """Return the rows of each window as the whole log has them."""
    records = map(orjson.loads, log)
    windows = groupby(records, key=lambda record: record["timestamp"] // WINDOW_MS)
    return [[record["features"] | {"prediction": record["prediction"]} for record in found] for _, found in windows]


def canonical(rows: list[dict[str, Any]]) -> list[bytes]:
    return sorted(map(orjson.dumps, rows))


@pytest.mark.parametrize("seed", range(5))
def test_windows_hold_the_rows_of_all_partitions_however_they_are_fetched(
    modules: tuple[Any, Any], log: list[bytes], seed: int
) -> None:
    tables, _ = modules
    draw = random.Random(seed)  # noqa: S311 - any order will do
    queued = {partition: log[partition::PARTITIONS] for partition in range(PARTITIONS)}
    collector, found = tables.Collector(PARTITIONS), []
    while waiting := [partition for partition, values in queued.items() if values]:
        partition, n = draw.choice(waiting), draw.randint(1, 60)
        fetched, queued[partition] = queued[partition][:n], queued[partition][n:]
        found += collector.take(partition, fetched)
    *whole, last = expected(log)
    assert len(last) < WINDOW_RECORDS  # nobody knows whether more of it will come
    assert list(map(canonical, found)) == list(map(canonical, whole))


def test_a_window_waits_for_the_slowest_partition(modules: tuple[Any, Any], log: list[bytes]) -> None:
    tables, _ = modules
    collector = tables.Collector(2)
    assert collector.take(0, log[0::2]) == []
    slow = log[1::2]
    first_past = WINDOW_RECORDS // 2  # of the slow half, so many records are of the first window
    assert collector.take(1, slow[:first_past]) == []
    (first,) = collector.take(1, slow[first_past : first_past + 1])
    assert len(first) == WINDOW_RECORDS


def test_the_reference_fills_a_window_with_other_records_of_the_same_form(modules: tuple[Any, Any]) -> None:
    _, generator = modules
    work = generator.Work(RECORDS, numeric=2, categorical=1, window_records=WINDOW_RECORDS)
    reference, log = ([orjson.loads(value) for value in made(work)] for made in (generator.reference, generator.values))
    assert len(reference) == WINDOW_RECORDS
    assert {record["prediction"] for record in reference}.isdisjoint(record["prediction"] for record in log)
    assert all(record["features"].keys() == log[0]["features"].keys() for record in reference)


@pytest.fixture(scope="module")
def bootstrap(kafka: str, modules: tuple[Any, Any]) -> str:
    """Address of the broker that holds the log, of 4 partitions, as the harness writes it."""
    _, generator = modules
    work = generator.Work(RECORDS, numeric=2, categorical=1, window_records=WINDOW_RECORDS)
    importlib.import_module("cluster").produce(kafka, "tables", PARTITIONS, work)
    return kafka


@pytest.fixture
def job(bootstrap: str, modules: tuple[Any, Any], tmp_path: Path) -> Iterator[Any]:
    """What a peer is told: a little more than two windows."""
    _, generator = modules
    work = generator.Work(RECORDS, numeric=2, categorical=1, window_records=WINDOW_RECORDS)
    (tmp_path / "reference.jsonl").write_bytes(b"\n".join(generator.reference(work)))
    job = importlib.import_module("job").Job
    yield job(bootstrap, "tables", PARTITIONS, 2 * WINDOW_RECORDS + 1, "", str(tmp_path))
    gc.unfreeze()  # the peers freeze what they have loaded


@pytest.mark.kafka
def test_a_tool_reports_on_the_reference_and_then_on_whole_windows(
    modules: tuple[Any, Any], log: list[bytes], job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, _ = modules
    reported: list[list[dict[str, Any]]] = []

    def reporter(reference: list[dict[str, Any]]) -> Any:
        assert len(reference) == WINDOW_RECORDS

        def report(rows: list[dict[str, Any]]) -> int:
            reported.append(rows)
            return len(rows)

        return report

    asyncio.run(tables.report_on_windows(job, reporter))
    measured = json.loads(capsys.readouterr().out)
    reference, *windows = reported
    assert canonical(reference) != canonical(windows[0])
    assert len(windows) >= 3  # one more where one fetch has completed two
    assert list(map(canonical, windows)) == list(map(canonical, expected(log)[: len(windows)]))
    assert (measured["records"], measured["batches"]) == (len(windows) * WINDOW_RECORDS, len(windows))


@pytest.mark.kafka
def test_a_report_on_fewer_rows_than_the_window_has_is_no_figure(
    modules: tuple[Any, Any], job: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, _ = modules
    with pytest.raises(RuntimeError, match="a window of 50 rows, and the report is on 49"):
        asyncio.run(tables.report_on_windows(job, lambda _reference: lambda rows: len(rows) - 1))
    assert not capsys.readouterr().out
