"""Rows of files as predictions: a published training file counts as its baseline does, and options do what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import orjson
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import Baseline, NumericSignal
from driftline.detectors.layout.columns import columns
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.streams.client.publish_check import Sample
from driftline.streams.files.options import Reading
from driftline.streams.files.prediction_rows import opened_predictions
from driftline.streams.files.training_columns import read_training
from driftline.streams.formats.wire import LOG_APPEND_TIME, decode

if TYPE_CHECKING:
    from pathlib import Path

N = 300
NOW_MS = 1_770_000_000_000


def documents(path: Path, reading: Reading, baseline: Baseline | None = None) -> list[dict[str, Any]]:
    baselines = {} if baseline is None else {("m", "1"): baseline}
    with opened_predictions([path], reading, baselines) as found:
        return list(found.documents())


def counted(signal: Any) -> list[int]:
    """Training rows by cell, as a layout orders them; of a categorical signal without the cells of other levels."""
    if isinstance(signal, NumericSignal):
        return [*signal.counts, signal.missing, signal.nonfinite]
    return [*signal.counts, signal.missing]


def written(name: str, values: list[Any], path: Path) -> Path:
    """A file of one column, in the format of its ending."""
    if path.suffix == ".csv":
        path.write_text(f"{name};other\n" + "".join(f"{value};1,5\n" for value in values))
    elif path.suffix == ".jsonl":
        path.write_bytes(b"".join(orjson.dumps({name: value}) + b"\n" for value in values))
    else:
        duckdb.execute("CREATE OR REPLACE TABLE t AS SELECT unnest($1::FLOAT[]) AS " + name, [values])
        duckdb.execute(f"COPY t TO '{path}' (FORMAT parquet)")
    return path


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("numeric", [-999 if row % 5 == 0 else row % 9 for row in range(N)]),
        ("categorical", [-999 if row % 5 == 0 else row % 9 / 2 for row in range(N)]),
        ("categorical", [row % 9 / 10 for row in range(N)]),
        ("categorical", [float("nan") if row % 4 == 0 else row % 5 for row in range(N)]),
        ("numeric", [f"{row % 40:05d}" for row in range(N)]),
        ("numeric", [("old", "1", "2.5")[row % 3] for row in range(N)]),
        ("numeric", [("1,5", "2", "x")[row % 3] for row in range(N)]),
        ("numeric", [f"{row % 3}.{row % 10:03d}" for row in range(N)]),
        ("numeric", [row % 2 == 0 for row in range(N)]),
        ("boolean", [row % 2 for row in range(N)]),
    ],
)
def test_a_training_file_that_is_published_counts_as_its_baseline(
    kind: str, values: list[Any], ending: str, tmp_path: Path
) -> None:
    is_float = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if ending == ".parquet" and not is_float:
        pytest.skip("the column of this file is of floats")
    if ending == ".csv" and isinstance(values[0], bool):
        pytest.skip("delimited text has no booleans of its own")
    path = written("x", values, tmp_path / f"rows{ending}")
    reading = Reading(kinds={"x": kind}, na=("-999",), model="m", version="1")
    baseline = fit("m", "1", read_training([path], reading).columns)
    watch = Watch(Plan()).with_baseline(baseline)
    [layout] = watch.layouts["m", "1"]
    rows = documents(path, reading, baseline)
    raw = [Sample("", 0, row, NOW_MS, LOG_APPEND_TIME, orjson.dumps(each)) for row, each in enumerate(rows)]
    batch, rejected = decode(raw, watch, 1 << 20)
    assert rejected == []
    found = columns(batch.predictions, layout)
    place, signal = list(layout.signals).index("x"), baseline.signals["x"]
    cells = np.bincount(found.cells[place] - layout.starts[place], minlength=len(counted(signal))).tolist()
    expected = counted(signal)
    if not isinstance(signal, NumericSignal):
        cells = [*cells[: len(expected) - 1], cells[-1] if len(cells) > len(expected) else 0]
    assert cells == expected
    assert found.mistyped[place].sum() == (signal.text if isinstance(signal, NumericSignal) else 0)


def test_options_name_the_fields_of_documents_in_a_wire_form(tmp_path: Path) -> None:
    row = {"model": "m", "version": "1", "features": {"x": 1}, "score": 0.5, "logged": NOW_MS, "nr": 7}
    (path := tmp_path / "rows.jsonl").write_bytes(orjson.dumps(row))
    [found] = documents(path, Reading(prediction="score", timestamp="logged", id="nr"))
    assert found == row | {"prediction": 0.5, "timestamp": NOW_MS, "id": 7}


def test_a_positional_record_without_a_version_gets_the_one_given(tmp_path: Path) -> None:
    (path := tmp_path / "rows.jsonl").write_bytes(
        b'{"input": [1], "output": 2}\n{"input": [1], "output": 2, "model_version": "9"}\n'
    )
    found = documents(path, Reading(model="m", version="1"))
    assert [each["model_version"] for each in found] == ["1", "9"]


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("20240131", "20240131"),
        ("20240131120000", "20240131120000"),
        ("1706702400", 1_706_702_400),
        ("1706702400000000123", 1_706_702_400_000_000_123),
        ("1706702400.5", 1_706_702_400.5),
        ("60", 60),
        ("2024-01-31", "2024-01-31"),
    ],
)
def test_a_cell_is_a_time_as_the_same_text_of_a_live_record_is(cell: str, time: float | str, tmp_path: Path) -> None:
    (path := tmp_path / "rows.csv").write_text(f"timestamp,x\n{cell},1\n{cell},2\n")
    found = documents(path, Reading(model="m", version="1"))
    assert [each["timestamp"] for each in found] == [time, time]
