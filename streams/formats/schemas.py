"""JSON Schemas of the documents on the topics, generated from the structs that read and write them.

``python -m driftline.streams.formats.schemas docs/schemas`` writes them.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import msgspec

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.documents.predictions import PositionalPrediction, Prediction
from driftline.detectors.verdicts.decide import Verdict
from driftline.streams.config.document import meanings

Struct = type[msgspec.Struct]


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a document; what a field means is in the docstring of its struct.

    Parameters
    ----------
    name
        A key of ``SCHEMAS``.
    """
    title, forms = SCHEMAS[name]
    references, components = msgspec.json.schema_components(forms, ref_template="#/$defs/{name}")
    for kind in _structs(forms):
        component = components[kind.__name__]
        component["description"] = (kind.__doc__ or "").partition("\n")[0]
        for field, meaning in meanings(kind).items():
            component["properties"][field]["description"] = meaning
    root = references[0] if len(references) == 1 else {"anyOf": list(references)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(components.items())),
    }


def _structs(kinds: Sequence[Any]) -> Iterator[Struct]:
    """Yield the structs among types, and those inside them."""
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield kind
            yield from _structs([field.type for field in msgspec.structs.fields(kind)])
        else:
            yield from _structs(get_args(kind))


def text(name: str) -> str:
    """Return a schema as its file has it."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """Write every schema into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCHEMAS:
        (folder / f"{name}.json").write_text(text(name), encoding="utf-8")


# Name of the file to title and forms: the first is ours, others are taken as well.
SCHEMAS: Mapping[str, tuple[str, tuple[Struct, ...]]] = MappingProxyType(
    {
        "prediction": ("A prediction, on topic predictions", (Prediction, PositionalPrediction)),
        "baseline": ("A baseline profile, on topic baselines", (Baseline,)),
        "window": ("The verdict on a window, on topic windows", (Verdict,)),
        "alert": ("An alert, on topic alerts", (Alert,)),
    }
)

if __name__ == "__main__":
    write(Path(sys.argv[1]))
