"""``driftline baseline``: build, show and publish, through the command line's own front door."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import column_of
from driftline.detectors.documents.baseline import Baseline, NumericSignal
from driftline.detectors.errors import OperatorError
from driftline.detectors.statistics.marginal import minimum_detectable_effect
from driftline.streams.cli.baseline import moment_ms, read_baseline
from driftline.streams.cli.main import run
from driftline.streams.config.settings import Settings
from driftline.streams.demo.embedded import embedded_broker
from driftline.streams.demo.stream import training_columns
from driftline.streams.files.options import Reading
from driftline.streams.files.training_columns import read_training
from driftline.streams.kafka.reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = training_columns(1_000)
    lines = [",".join("score" if name == "prediction" else name for name in columns)]
    lines += [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def built(rows: Path, tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    named = ["--model", "credit", "--version", "v1", "--prediction", "score"]
    assert run(["baseline", "build", str(rows), *named, "--out", str(path)]) == 0
    return path


def test_what_is_built_is_what_fit_makes_of_the_rows(built: Path) -> None:
    found = read_baseline(built)
    columns = {name: replace(column_of(values), markers=("",)) for name, values in training_columns(1_000).items()}
    assert found == fit("credit", "v1", columns)
    assert list(found.signals)[-1] == "prediction"


def test_building_twice_gives_the_same_bytes(built: Path, rows: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    named = ["--model", "credit", "--version", "v1", "--prediction", "score"]
    run(["baseline", "build", str(rows), *named, "--out", str(again)])
    assert again.read_bytes() == built.read_bytes()


def test_what_each_column_is_taken_for_is_said_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["id,age,zip,made,na\x1bme,prediction"]
    lines += [f"{row},{'NA' if row % 10 == 0 else row % 7},{row % 9:02d},2024-01-01,x,0.5" for row in range(100)]
    (path := tmp_path / "train.csv").write_text("\n".join(lines))
    arguments = ["baseline", "build", str(path), "--model", "m", "--version", "v", "--out", str(tmp_path / "b.json")]
    assert run(arguments) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:7]]
    assert [(name, " ".join(rest.split())) for name, rest in rows] == [
        ("id", "id, left out 0 100 the prediction's id"),
        ("age", "numeric 10 (NA) 7 numbers"),
        ("zip", "categorical 0 9 numbers with leading zeros are codes (100 rows)"),
        ("made", "date, left out 0 1 dates or times"),
        ("na?me", "constant 0 1 has one value only"),
        ("prediction", "constant 0 1 the model's output; has one value only"),
    ]
    assert list(read_baseline(tmp_path / "b.json").signals) == ["age", "zip", "na\x1bme", "prediction"]


def test_a_model_column_is_a_feature_and_one_that_holds_the_name_is_not(tmp_path: Path) -> None:
    """Cars have models, too; and a log that was exported names its model in every row."""
    for name, told in (("corolla", True), ("m", False)):
        lines = [f"model,age,prediction\n{name},1,2"] + [f"m,{row},{row % 3}" for row in range(30)]
        (path := tmp_path / "train.csv").write_text("\n".join(lines))
        out = tmp_path / "b.json"
        assert run(["baseline", "build", str(path), "--model", "m", "--version", "v", "--out", str(out)]) == 0
        assert ("model" in read_baseline(out).signals) == told


def test_reading_more_rows_takes_no_more_steps_of_python(tmp_path: Path) -> None:
    """Cells are never Python objects: a list of them a column took minutes for 160 000 rows of ten columns."""
    steps = []
    for n in (4_000, 40_000):
        lines = ["a,b,c,prediction"] + [f"{row * 7 % 1_000},x{row % 9},{row / 7:.3f},0.5" for row in range(n)]
        (path := tmp_path / "train.csv").write_text("\n".join(lines))
        calls: list[str] = []
        sys.setprofile(lambda _frame, event, _argument, calls=calls: calls.append(event))  # type: ignore[misc]
        try:
            read_training([path], Reading())
        finally:
            sys.setprofile(None)
        steps.append(calls.count("call"))
    assert steps[1] < 1.2 * steps[0]


def test_a_baseline_without_a_prediction_is_built_and_said_so(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "baseline.json"
    assert run(["baseline", "build", str(rows), "--model", "m", "--version", "v", "--out", str(out)]) == 0
    assert "score" in read_baseline(out).signals
    assert "no prediction among the signals; name its column with --prediction" in capsys.readouterr().err


def test_show_tells_signals_bounds_size_and_what_can_be_seen(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["baseline", "show", str(built)]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = read_baseline(built)
    assert lines[0] == f"credit v1: 1000 rows, 13 signals, hash {found.hash}"
    assert lines[1] == f"{built.stat().st_size} bytes; in force from the beginning of time on"
    (age,) = (line for line in lines if line.startswith("age "))
    assert "numeric" in age
    profile = found.signals["age"]
    assert isinstance(profile, NumericSignal)
    assert age.endswith(f"possible from 0 to {profile.high:.6g}")
    (purpose,) = (line for line in lines if line.startswith("purpose "))
    assert "5 levels (car, renovation, furniture, education, other), never missing, a new level is an event" in purpose
    effect = minimum_detectable_effect(1_000, 1_000, 0.00525 / 13)
    assert f"{effect:.2f} sd of 1000" in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "{rows}", "--model", "a|b", "--version", "v", "--out", "x"], "--model 'a|b': a name has 1 to 128"),
        (["build", "{rows}", "--model", "m", "--version", "", "--out", "x"], "--version ''"),
        (
            ["build", "{rows}", "--model", "m", "--version", "v", "--out", "/no/such/x"],
            "--out /no/such/x: No such file",
        ),
        (["build", "/no/such.csv", "--model", "m", "--version", "v", "--out", "x"], "/no/such.csv: No such file"),
        (["build", "{rows}", "--model", "m", "--version", "v", "--out", "x", "--prediction", "y"], "no such column"),
        (["show", "/no/such.json"], "make one with `driftline baseline build FILE --model"),
        (["show", "{rows}"], "not a baseline profile"),
        (["publish", "{built}", "--effective-from", "soon"], "--effective-from soon: neither ISO 8601"),
    ],
)
def test_errors_name_the_value_and_the_remedy(
    arguments: list[str],
    said: str,
    rows: Path,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["baseline", *(each.format(rows=rows, built=built) for each in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_moments_are_utc_unless_they_say_otherwise() -> None:
    assert moment_ms("2025-01-31T12:00") == moment_ms("2025-01-31T13:00+01:00") == 1_738_324_800_000
    assert moment_ms("1738324800000") == 1_738_324_800_000
    with pytest.raises(OperatorError, match="neither ISO 8601"):
        moment_ms("-5")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with embedded_broker({"baselines": 1}) as running:
        yield running.bootstrap_servers


def published(broker: str) -> list[Baseline]:
    async def read() -> list[Baseline]:
        async with TopicReader(broker, Settings().topics.baselines, Baseline, "beginning", "end") as found:
            return [each async for each in found]

    return asyncio.run(read())


@pytest.mark.embedded
def test_the_first_baseline_is_in_force_for_ever_and_the_next_from_the_next_window(
    broker: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def publish(path: Path, *options: str) -> str:
        assert run(["baseline", "publish", str(path), "--bootstrap-servers", broker, *options]) == 0
        return capsys.readouterr().out

    first, second, other = tmp_path / "first.json", tmp_path / "second.json", tmp_path / "other.json"
    for path, version, top in ((first, "v1", 3.0), (second, "v1", 4.0), (other, "v2", 4.0)):
        path.write_bytes(fit("churn", version, {"a": [1.0, 2.0, top]}).to_json())

    assert "published, in force from the beginning of time on" in publish(first)
    assert "nothing to do: it is published already" in publish(first)
    publish(second)
    publish(other)
    publish(second, "--effective-from", "1970-01-01T00:10Z")

    found = published(broker)
    assert [each.version for each in found] == ["v1", "v1", "v2", "v1"]
    assert [found[place].effective_from_ms for place in (0, 2, 3)] == [0, 0, 10 * MINUTE_MS]
    next_window_ms = found[1].effective_from_ms
    assert next_window_ms > 0
    assert next_window_ms % MINUTE_MS == 0
    assert all(msgspec.structs.replace(each).checked() == each for each in found)


@pytest.mark.embedded
def test_publishing_where_no_kafka_is_says_so(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["baseline", "publish", str(built), "--bootstrap-servers", "127.0.0.1:1"]) == 3
    assert "127.0.0.1:1" in capsys.readouterr().err
