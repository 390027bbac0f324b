from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import CategoricalSignal
from driftline.streams.cli.dead_letters import as_json as letter_json
from driftline.streams.cli.dead_letters import letter_lines
from driftline.streams.cli.main import run
from driftline.streams.cli.read import alert_line, as_json, verdict_line
from driftline.streams.cli.status import tables
from driftline.streams.cli.window_summary import Summary, summarised
from driftline.streams.client.status import InForce, Judged, Lag, Rejected, Status
from driftline.streams.config.document import shown
from driftline.streams.config.settings import load_settings
from driftline.streams.formats.letters import Letter
from driftline.streams.terminal import OnOneLine, printable
from tests.test_cli_read import alert, signal_verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

hostile = st.text(st.sampled_from("ab \x1b\x07\r\n\x7f\x9b\u202e\u2066\u200b\ud83d"), max_size=12).map(
    lambda text: text.encode(errors="ignore").decode()
)


def printed(name: str) -> Iterator[str]:
    """The lines of every command that prints names from topics."""
    drifting = {name: signal_verdict(1e-9, drift=True)}
    yield alert_line(msgspec.structs.replace(alert(1, name), summary=name, version=name))
    yield verdict_line(verdict(model=name, version=name, drift=True, status="drift", signals=drifting))
    yield as_json(alert(1, name))
    yield as_json(verdict(model=name, signals=drifting))
    summary = Summary()
    summary.take(verdict(model=name, signals=drifting))
    yield from summarised({(name, name): summary}, load_settings(None, {}).plan)
    letter = Letter(
        time_ms=0, place=(0, 0), topic=name, partition=0, offset=1, reason=name, field=name, found=name, wanted=name,
        size=99, value=name.encode(),
    )  # fmt: skip
    yield from letter_lines(letter).split("\n", 1)
    yield letter_json(letter)
    yield from map(printable, tables(status(name)))
    yield from shown(
        load_settings(None, {"DRIFTLINE_PLAN__MODELS": json.dumps({"m": {"signals": {name: {}}}})})
    ).splitlines()


def status(name: str) -> Status:
    return Status(
        app_id="driftline",
        group="Stable",
        workers=["127.0.0.1"],
        lags=[Lag("predictions", 0, 5, 9), Lag("partials", 0, -1, 3)],
        watermarks={0: 60_000},
        verdicts=[Judged(name, name, 0, 10, "stable", final=False)],
        rejected=[Rejected("unknown_model", name, name, 7)],
        baselines=[InForce(name, name, "0123456789abcdef", 0, 100, 5)],
    )


@given(hostile)
def test_no_printing_command_passes_what_could_command_a_terminal(name: str) -> None:
    for line in printed(name):
        assert line.isprintable(), line


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_printable_stays_and_nothing_else_does(text: str) -> None:
    assert len(printable(text)) == len(text)
    assert printable(text).isprintable()
    assert all(after == before or not before.isprintable() for before, after in zip(text, printable(text), strict=True))


@pytest.mark.parametrize("length", [1, 10, 128])
def test_tables_fit_a_terminal_of_80_columns(length: int) -> None:
    assert max(map(len, tables(status("m" * length)))) <= 80
    summary = Summary()
    drifting = {"s" * length: signal_verdict(1e-9, drift=True)}
    summary.take(verdict(n=5, signals=drifting, status="insufficient", drift=None))
    lines = list(summarised({("m", "1"): summary}, load_settings(None, {}).plan))
    assert max(map(len, lines)) <= 80


def test_a_log_message_stays_on_its_line() -> None:
    record = logging.LogRecord("driftline", logging.INFO, "", 0, "model %s", ("red\x1b[31m\nforged",), None)
    assert OnOneLine().filter(record)
    assert record.getMessage() == "model red?[31m?forged"


def test_a_hostile_baseline_is_shown_without_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "le\x1b[31mvel\n\u202e"
    found = fit("m", "1", {f"signal {name}": [name, "b", "c"] * 50})
    assert isinstance(found.signals[f"signal {name}"], CategoricalSignal)
    path = tmp_path / "baseline.json"
    path.write_bytes(found.to_json())
    assert run(["baseline", "show", str(path)]) == 0
    said = capsys.readouterr().out
    assert all(line.isprintable() for line in said.split("\n"))
    assert "le?[31mvel??" in said
    path.write_bytes(b'{"format": "\\u001b[31m\\n"}')
    assert run(["baseline", "show", str(path)]) == 2
    assert all(line.isprintable() for line in capsys.readouterr().err.split("\n"))
