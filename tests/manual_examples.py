"""Write the examples of docs/wire-formats.md anew, all of one run: house prices whose areas shift after 90 seconds.

``python -m tests.manual_examples``
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from tests.memory_broker import Record
from tests.simulator import STAGES, Rehearsal

MANUAL = Path(__file__).resolve().parent.parent / "docs" / "wire-formats.md"
START_MS = 1_767_225_600_000
STEP_MS = 300
BLOCK = re.DOTALL | re.MULTILINE
SHIFT_FROM, IMPOSSIBLE = 300, 420
"""Row from which areas shift, and the row whose area is a thousand times too large."""


def houses(n: int, shift_from: int, seed: int) -> list[dict[str, Any]]:
    """Made-up houses, larger ones from a row on."""
    rng = np.random.default_rng(seed)
    areas = np.round(rng.normal(1450, 380, n) + 300 * (np.arange(n) >= shift_from)).clip(350)
    prices = np.round(120 * areas + rng.normal(0, 6000, n), -2)
    districts = rng.choice(["north", "south", "harbour"], n, p=[0.5, 0.3, 0.2])
    return [
        {"square_footage": int(area), "district": str(district), "prediction": float(price)}
        for area, district, price in zip(areas, districts, prices, strict=True)
    ]


def trained() -> Baseline:
    """The baseline of 400 houses."""
    rows = houses(400, 400, seed=1)
    return fit("house-price", "v3", {name: [row[name] for row in rows] for name in rows[0]})


def ran(baseline: Baseline) -> Rehearsal:
    """Nine hundred predictions through both stages."""
    rows = houses(900, SHIFT_FROM, seed=2)
    rows[IMPOSSIBLE]["square_footage"] = 1_590_000
    found = Rehearsal(Watch(Plan()).with_baseline(baseline), dict.fromkeys(STAGES, 1))
    found.broker.publish("predictions", 0, [document(row, number) for number, row in enumerate(rows)])
    asyncio.run(found.run(()))
    return found


def document(row: dict[str, Any], number: int) -> tuple[bytes, int]:
    """A prediction and the time at which it was appended."""
    event_ms = START_MS + STEP_MS * number
    features = {name: value for name, value in row.items() if name != "prediction"}
    body = {"model": "house-price", "version": "v3", "id": f"q-{number:04}", "timestamp": event_ms}
    return orjson.dumps(body | {"features": features, "prediction": row["prediction"]}), event_ms


def shown(value: dict[str, Any]) -> str:
    """A document as JSON: a field a line, and a line for each member of the fields that hold objects."""
    lines = []
    for name, field in value.items():
        members = (
            field.items()
            if isinstance(field, dict)
            else [("", each) for each in field]
            if isinstance(field, list)
            else []
        )
        if not any(isinstance(each, dict) for _, each in members):
            lines.append(f'  "{name}": {json.dumps(field, ensure_ascii=False)}')
            continue
        inner = ",\n".join(f"    {json.dumps(key) + ': ' if key else ''}{json.dumps(each)}" for key, each in members)
        opening, closing = "{}" if isinstance(field, dict) else "[]"
        lines.append(f'  "{name}": {opening}\n{inner}\n  {closing}')
    return "{\n" + ",\n".join(lines) + "\n}"


def main() -> None:
    """Replace the examples and the table of headers."""
    baseline = trained()
    found = ran(baseline)
    windows, alerts = (
        [orjson.loads(each.value or b"") for each in found.broker.records(name)] for name in ("windows", "alerts")
    )
    drift = next(record for record in found.broker.records("alerts") if of(record, "drift", "square_footage"))
    examples = {
        "baseline": [orjson.loads(baseline.to_json())],
        "window": [
            next(
                each
                for each in windows
                if each["window"]["start_ms"] == orjson.loads(drift.value or b"")["window"]["start_ms"]
            )
        ],
        "alert": [orjson.loads(drift.value or b""), next(each for each in alerts if each["detector"] == "range")],
    }
    text = MANUAL.read_text(encoding="utf-8")
    for kind, documents in examples.items():
        for place, example in zip(
            list(re.finditer(rf"^```json {kind}\n.*?^```$", text, BLOCK))[::-1], documents[::-1], strict=True
        ):
            text = f"{text[: place.start()]}```json {kind}\n{shown(example)}\n```{text[place.end() :]}"
    for name, value in drift.headers:
        text = re.sub(rf"^\| `{name}` \| .* \|$", f"| `{name}` | `{value.decode()}` |", text, flags=re.MULTILINE)
    MANUAL.write_text(text, encoding="utf-8")


def of(record: Record, kind: str, signal: str) -> bool:
    """Whether a record is a first alert of that kind on that signal."""
    alert = orjson.loads(record.value or b"")
    return (alert["kind"], alert["signal"], alert["state"]) == (kind, signal, "firing")


if __name__ == "__main__":
    main()
