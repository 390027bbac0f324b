"""The published schemas, the manual's examples and real documents agree."""

from __future__ import annotations

import asyncio
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import REASONS
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.formats import schemas, wire
from tests.logs import SENSITIVE, Shape, baselines, prediction_log, spread, watching
from tests.simulator import STAGES, Rehearsal, Turn

DOCS = Path(__file__).parents[1] / "docs"
MANUAL = (DOCS / "wire-formats.md").read_text(encoding="utf-8")


@cache
def validator(name: str) -> Any:
    return jsonschema_rs.validator_for(json.dumps(schemas.schema(name)), validate_formats=True)


@cache
def documents() -> dict[str, list[bytes]]:
    """What one run reads and writes, with provisional verdicts among them."""
    found = Rehearsal(watching(SENSITIVE, *baselines()), dict.fromkeys(STAGES, 2))
    for partition, records in enumerate(spread(prediction_log(1, Shape(n=600, stragglers=0.03, rubbish=0.1)), 2)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
    asyncio.run(
        found.run([Turn("poll", found.places[0], 200), Turn("idle", found.places[0]), Turn("idle", found.places[1])])
    )
    rejected = {(int(headers["partition"]), int(headers["offset"])) for headers in dead_letters(found)}
    return {
        "prediction": [
            record.value or b""
            for record in found.broker.records("predictions")
            if (record.partition, record.offset) not in rejected
        ],
        "baseline": [each.to_json() for each in baselines()],
        "window": [record.value or b"" for record in found.broker.records("windows")],
        "alert": [record.value or b"" for record in found.broker.records("alerts")],
    }


def dead_letters(found: Rehearsal) -> list[dict[str, bytes]]:
    return [dict(record.headers) for record in found.broker.records("dead_letters")]


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_committed_schemas_are_the_generated_ones(name: str) -> None:
    assert (DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8") == schemas.text(name), (
        "run `python -m driftline.streams.formats.schemas docs/schemas`"
    )


def test_no_schema_is_committed_that_is_not_generated(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    assert {path.name for path in (DOCS / "schemas").iterdir()} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_a_schema_is_one(name: str) -> None:
    assert jsonschema_rs.meta.is_valid(schemas.schema(name))


@pytest.mark.parametrize("name", schemas.SCHEMAS)
def test_the_documents_of_a_run_fit_their_schema(name: str) -> None:
    found = documents()[name]
    assert len(found) > {"baseline": 2}.get(name, 20)
    for value in found:
        validator(name).validate(json.loads(value))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prediction", {"features": [1]}),
        ("prediction", {"timestamp": True}),
        ("baseline", {"format": "driftline.baseline/9"}),
        ("baseline", {"signals": {"age": {"type": "other"}}}),
        ("window", {"status": "fine"}),
        ("window", {"n": "3"}),
        ("alert", {"state": "open"}),
        ("alert", {"window": {"start_ms": 0}}),
    ],
)
def test_a_document_that_does_not_fit_is_refused_by_schema_and_decoder_alike(name: str, change: dict[str, Any]) -> None:
    broken = json.loads(documents()[name][0]) | change
    assert not validator(name).is_valid(broken)
    for form in schemas.SCHEMAS[name][1]:
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(broken), type=form)


def test_every_field_is_explained() -> None:
    """In words of its own, or by the one line that says what its struct is."""
    silent = [
        f"{kind}.{field}"
        for name in schemas.SCHEMAS
        for kind, component in schemas.schema(name)["$defs"].items()
        if any("description" in described for described in component["properties"].values())
        for field, described in component["properties"].items()
        if "description" not in described and field != "type"
    ]
    assert silent == []


# The manual.

EXAMPLES = re.findall(r"^```json (\w+)\n(.*?)^```$", MANUAL, re.DOTALL | re.MULTILINE)


def test_the_manual_has_an_example_of_every_document() -> None:
    assert {name for name, _ in EXAMPLES} == schemas.SCHEMAS.keys()
    assert MANUAL.count("```json") == len(EXAMPLES)


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_examples_of_the_manual_fit_their_schema(name: str, example: str) -> None:
    assert list(validator(name).iter_errors(json.loads(example))) == []


def test_the_examples_of_the_manual_are_of_one_run() -> None:
    decoded = {name: [example for kind, example in EXAMPLES if kind == name] for name in schemas.SCHEMAS}
    baseline = Baseline.from_json(decoded["baseline"][0].encode())
    alerts = [msgspec.json.decode(example, type=Alert) for example in decoded["alert"]]
    [window] = [msgspec.json.decode(example, type=Verdict) for example in decoded["window"]]
    judged_by = {window.baseline, *(alert.baseline for alert in alerts)}
    assert alerts == [alert.identified() for alert in alerts]
    assert judged_by == {baseline.hash}
    assert window.n == sum(window.signals["district"].counts)
    for name, value in wire.alert_record(alerts[0]).headers:
        assert f"| `{name}` | `{value.decode()}` |" in MANUAL


def test_the_manual_lists_the_reasons_that_the_code_has() -> None:
    [table] = re.findall(r"^\| Reason \| Meaning \|\n\|---\|---\|\n((?:\|.*\|\n)+)", MANUAL, re.MULTILINE)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE))
    assert {reason: meaning.replace("\\|", "|") for reason, meaning in rows.items()} == REASONS


def test_a_run_gives_no_other_reasons() -> None:
    found = Rehearsal(watching(SENSITIVE, *baselines()), dict.fromkeys(STAGES, 1))
    log = spread(prediction_log(1, Shape(n=600, rubbish=0.3)), 1)[0]
    found.broker.publish("predictions", 0, [(each.value, each.timestamp) for each in log])
    asyncio.run(found.run(()))
    reasons = {headers["reason"].decode() for headers in dead_letters(found)}
    assert len(reasons) > 6
    assert reasons <= REASONS.keys()
