"""A baseline that records can't be counted or scored by is refused when it is read, not met at the first record."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.baseline import Baseline, content_hash
from driftline.detectors.documents.outlier_profile import packed, unpacked
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.vector_layout import N
from driftline.detectors.plan import Plan
from driftline.detectors.windows.profiling import PartitionState
from tests.logs import START_MS, Profile, batch_of, judge, prediction, watching


@cache
def valid() -> bytes:
    """Two features with a joint tail, a flag and a category."""
    rng = np.random.default_rng(0)
    n = 5_000
    columns = {
        "x": rng.normal(size=n).tolist(),
        "y": rng.lognormal(size=n).tolist(),
        "flag": (rng.random(n) < 0.1).astype(float).tolist(),
        "colour": rng.choice(["red", "green"], n).tolist(),
        "prediction": rng.random(n).tolist(),
    }
    return fit("m", "1", columns).to_json()


def sealed(document: dict[str, Any]) -> bytes:
    """The document under the hash of its content."""
    as_read = msgspec.json.decode(orjson.dumps(document), type=Baseline)
    return msgspec.structs.replace(as_read, hash=content_hash(as_read)).to_json()


def changed(place: str, value: Any) -> bytes:
    document = orjson.loads(valid())
    *path, last = place.split(".")
    at = document
    for key in path:
        at = at[key]
    at[last] = value
    return sealed(document)


LEAVES = unpacked(orjson.loads(valid())["outliers"]["leaves"])


def leaves_with(value: int) -> str:
    masses = LEAVES.copy()
    masses[3, 5] = value
    return packed(masses)


BAD = [
    ("outliers.leaves", "no base64!"),
    ("outliers.leaves", "AAAA"),
    ("outliers.leaves", packed(LEAVES[:3])),
    ("outliers.leaves", packed(np.vstack([LEAVES, LEAVES]))),
    ("outliers.leaves", leaves_with(-4)),
    ("outliers.leaves", leaves_with(249)),
    ("outliers.tail", []),
    ("outliers.tail", [0.5]),
    ("outliers.tail_counts", [3]),
    ("outliers.scored", 0),
    ("outliers.scored", 10**6),
    ("outliers.features", ["x", "y", "colour", "prediction"][:3]),
    ("outliers.features", ["x", "x", "flag"]),
    ("outliers.features", ["x", "y", "nobody"]),
    ("outliers.features", ["x", "y"]),
    ("outliers.low", [5.0, 1e9, 5.0]),
    ("outliers.high", [-50.0, -50.0, -50.0]),
    ("outliers.dispersion", 0.5),
    ("outliers.window", 0),
    ("outliers.window", 2**40),
    ("outliers.window", 100),
    ("outliers.highest", 2.0),
    ("outliers.trimmed", -1),
    ("outliers.joint_tail.excess", 0.0),
    ("outliers.joint_tail.excess", -1.0),
    ("outliers.joint_tail.share", 0.0),
    ("outliers.joint_tail.k", 0),
    ("signals", {}),
    ("n", 0),
    ("n", -1),
    ("n", 2**60),
    ("signals.x.missing", -1),
    ("signals.x.missing", 2**62),
    ("signals.x.counts", [2**63 - 1] * 20),
    ("signals.x.sd", -1.0),
    ("signals.x.mean", 1e200),
    ("signals.x.low", 1e300),
    ("signals.x.least", 5.0),
    ("signals.x.fed", [[0.0, 1.0]]),
    ("signals.x.fed", [[0.0, -1.0], [1.0, 1.0]]),
    ("signals.colour.other", -3),
    ("signals.colour.levels", ["red", "red"]),
]


@pytest.mark.parametrize(("place", "value"), BAD, ids=[f"{place}-{number}" for number, (place, _) in enumerate(BAD)])
def test_a_sealed_baseline_that_nothing_can_be_counted_by_is_refused_and_its_place_named(
    place: str, value: Any
) -> None:
    with pytest.raises(OperatorError) as raised:
        Baseline.from_json(changed(place, value))
    assert "hash" not in str(raised.value)
    assert place == "n" or str(raised.value).count(place.partition(".")[0]) > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["sd", "mean", "low", "high"])
def test_numbers_that_are_none_are_refused(field: str, value: float) -> None:
    found = Baseline.from_json(valid())
    signals = {**found.signals, "x": msgspec.structs.replace(found.signals["x"], **{field: value})}
    with pytest.raises(OperatorError, match=r"signals\.x"):
        msgspec.structs.replace(found, signals=signals).checked()


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document but its name and hash."""
    found = [path] if path else []
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, each in members:
        if path or key not in ("format", "hash", "model", "version"):
            found += places(each, (*path, key))
    return found


PLACES = places(orjson.loads(valid()))
ODD = st.sampled_from([0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**62), 1e-300, 1e150, 1e308, -1e308, 0.5, "", "x", [], {}])


def mutated(document: Any, path: tuple[Any, ...], kind: str, value: Any) -> None:
    *parents, last = path
    for key in parents:
        document = document[key]
    if kind == "replace":
        document[last] = value
    elif kind == "drop":
        del document[last]
    elif isinstance(document, list):
        document.insert(last, copy.deepcopy(document[last]))
    else:
        document[f"{last}2"] = copy.deepcopy(document[last])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["replace", "replace", "drop", "double"]), ODD),
        min_size=1,
        max_size=3,
    )
)
def test_any_sealed_document_is_refused_or_can_be_counted_and_judged_by(
    mutations: list[tuple[tuple[Any, ...], str, Any]],
) -> None:
    document = orjson.loads(valid())
    for path, kind, value in mutations:
        try:
            mutated(document, path, kind, value)
        except (KeyError, IndexError, TypeError):
            continue  # the mutation before took its place away
    try:
        baseline = Baseline.from_json(sealed(document))
        watch = watching(Plan(min_rows=1), baseline)
    except (OperatorError, msgspec.ValidationError):
        return
    rng = np.random.default_rng(1)
    rows = [
        prediction({"x": float(x), "y": 1e300 if x > 1 else None, "flag": 1.0, "colour": "mauve"}, 0.5)
        for x in rng.normal(size=300)
    ]
    found = Profile(PartitionState(0, 1))
    found.step(batch_of(rows, [START_MS + place * 1000 for place in range(len(rows))]), watch)
    _, judged = judge(found.items, watch)
    counted = sum(verdict.n for verdict in judged.verdicts if verdict.final)
    still_open = sum(int(window.vector[N]) for cell in found.state.cells.values() for window in cell.windows.values())
    assert counted + still_open == len(rows)
