from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.baselines.fit import fit
from driftline.detectors.baselines.training import CategoricalColumn, NumericColumn
from driftline.detectors.documents.predictions import NESTED
from driftline.detectors.layout.columns import Chosen, Columns, columns, columns_of
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan
from tests.logs import churn, plain, prediction, sample

LAYOUT = Layout.of(plain(), Plan())
CLASSES = Layout.of(churn("2"), Plan())


def read(features: dict[str, Any], output: Any = 0.5, layout: Layout = LAYOUT) -> Columns:
    """Columns of one record."""
    return columns([prediction(features, output)], layout)


def cell(name: str, value: Any, layout: Layout = LAYOUT) -> str:
    """What the one value of a signal is counted as."""
    found = read({}, value, layout) if name == "prediction" else read({name: value}, layout=layout)
    place = layout.signals.index(name)
    index = int(found.cells[place, 0] - layout.starts[place])
    k = len(layout.baseline.signals[name].counts)
    last = ["missing", "nonfinite"] if name in layout.numeric else ["other", "unseen", "missing"]
    labels = [*(getattr(layout.baseline.signals[name], "levels", None) or range(k)), *last]
    return str(labels[index])


@given(seed=st.integers(0, 100), row=st.integers(0, 19), name=st.sampled_from(["x", "y"]))
def test_one_odd_value_changes_nothing_for_the_others_of_its_batch(seed: int, row: int, name: str) -> None:
    rows = sample(20, seed)
    clean = columns(rows, LAYOUT)
    odd = prediction({**rows[row].features, name: "odd"}, rows[row].prediction)
    soiled = columns([*rows[:row], odd, *rows[row + 1 :]], LAYOUT)
    others = np.ones((len(LAYOUT.signals), 20), np.bool_)
    others[LAYOUT.signals.index(name), row] = False
    assert (soiled.cells == clean.cells)[others].all()
    assert np.argwhere(soiled.mistyped).tolist() == [[LAYOUT.signals.index(name), row]]
    assert (~soiled.finite).sum() == 1


def test_the_rows_of_a_batch_do_not_depend_on_each_other() -> None:
    rows = [*sample(10, 1), prediction({"x": None, "colour": 3}, None), prediction({}, "high"), *sample(5, 2)]
    whole = columns(rows, LAYOUT)
    alone = [columns([row], LAYOUT) for row in rows]
    assert np.concatenate([each.cells for each in alone], axis=1).tolist() == whole.cells.tolist()
    assert np.concatenate([each.finite for each in alone], axis=1).tolist() == whole.finite.tolist()


@given(reader=st.lists(st.integers(0, 3), min_size=1, max_size=20), seed=st.integers(0, 100))
def test_rows_of_several_models_read_together_are_as_those_of_each_alone(reader: list[int], seed: int) -> None:
    few = Layout.of(
        fit("m", "2", {"x": [1.0, 2.0], "y": [0.0, 3.0], "colour": ["blue", "red"], "prediction": [0, 1]}), Plan()
    )
    layouts = [LAYOUT, Layout.of(plain(seed=7), Plan()), few, CLASSES]
    rows = sample(len(reader), seed)
    rows[seed % len(rows)] = prediction({"x": "odd", "colour": "mauve", "y": None}, {"yes": 1.0})
    chosen = [Chosen(np.flatnonzero(np.array(reader) == place), layout) for place, layout in enumerate(layouts)]
    for each, found in zip(chosen, columns_of(rows, chosen), strict=True):
        alone = columns([rows[row] for row in each.rows.tolist()], each.layout)
        for field in dataclasses.fields(Columns):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(alone, field.name), field.name)


@pytest.mark.parametrize("name", ["x", "colour"])
def test_null_and_absent_both_are_missing(name: str) -> None:
    assert cell(name, None) == "missing"
    assert read({}).cells.tolist() == read({"x": None, "y": None, "colour": None}).cells.tolist()


@pytest.mark.parametrize("value", ["forty", "", "1,5", "nan", "inf", "0x10", "1_000", "٣", "1e999", "--1", "1 2"])
def test_text_where_a_number_belongs_is_not_finite_and_mistyped(value: str) -> None:
    assert cell("x", value) == "nonfinite"
    assert read({"x": value}).mistyped[:, 0].tolist() == [True, False, False, False]


@pytest.mark.parametrize("text", ["0.5", " 0.5 ", "5e-1", "+.5", "5.E-1", "\t00.50\n"])
def test_text_that_holds_a_number_is_read_as_that_number_and_mistyped(text: str) -> None:
    assert cell("x", text) == cell("x", 0.5)
    assert read({"x": text}).numeric[0, 0] == 0.5
    assert read({"x": text}).mistyped[:, 0].tolist() == [True, False, False, False]


@pytest.mark.parametrize("name", ["x", "colour"])
def test_a_list_or_an_object_is_missing_and_mistyped_and_spoils_nothing_beside_it(name: str) -> None:
    assert cell(name, NESTED) == "missing"
    found = columns([*sample(3, 1), prediction({**sample(1, 2)[0].features, name: NESTED}, 0.5)], LAYOUT)
    assert np.argwhere(found.mistyped).tolist() == [[LAYOUT.signals.index(name), 3]]
    assert found.cells[:, :3].tolist() == columns(sample(3, 1), LAYOUT).cells.tolist()


# What the baseline decided.

READ_BY_BASELINE = Layout.of(
    fit(
        "m",
        "1",
        {
            "x": NumericColumn(np.array([float(value) for value in range(20)]), markers=("", "NA")),
            "y": NumericColumn(np.array([float(value) for value in range(20)])),
            "is_open": CategoricalColumn(["false", "true"], np.arange(20) % 2, boolean=True, markers=("NA",)),
            "colour": CategoricalColumn(["blue", "true", "1"], np.arange(20) % 3, markers=("", "NA")),
        },
    ),
    Plan(),
)
# Signal, value, and the cell that it is counted in: the table of docs/wire-formats.md.
BY_BASELINE: list[tuple[str, Any, str]] = [
    *[("is_open", value, "true") for value in (True, "true", "TRUE", "True", 1, 1.0, "1")],
    *[("is_open", value, "false") for value in (False, "false", "FALSE", "False", 0, 0.0, "0")],
    *[("is_open", value, "unseen") for value in ("yes", "", 2, 0.5, "tRuE")],
    *[("is_open", value, "missing") for value in (None, "NA")],
    *[("colour", value, "true") for value in (True, "true")],
    *[("colour", value, "1") for value in (1, 1.0, "1")],
    *[("colour", value, "unseen") for value in ("TRUE", 0, False, "null")],
    *[("colour", value, "missing") for value in (None, "", "NA")],
    *[("x", value, "missing") for value in (None, "", "NA")],
    *[("x", value, "nonfinite") for value in ("N/A", " ", "na")],
    *[("y", value, "nonfinite") for value in ("", "NA")],
]


@pytest.mark.parametrize(("name", "value", "expected"), BY_BASELINE)
def test_a_value_is_read_by_what_the_baseline_decided(name: str, value: Any, expected: str) -> None:
    assert cell(name, value, READ_BY_BASELINE) == expected
    if expected == "missing":
        assert not read({name: value}, layout=READ_BY_BASELINE).mistyped.any()


@given(st.lists(st.sampled_from(BY_BASELINE), max_size=20))
def test_values_are_read_alike_whatever_stands_beside_them(rows: list[tuple[str, Any, str]]) -> None:
    whole = columns([prediction({name: value}) for name, value, _ in rows], READ_BY_BASELINE)
    for place, (name, value, _) in enumerate(rows):
        alone = read({name: value}, layout=READ_BY_BASELINE)
        assert whole.cells[:, place].tolist() == alone.cells[:, 0].tolist()
        assert whole.mistyped[:, place].tolist() == alone.mistyped[:, 0].tolist()


def test_models_of_the_same_names_are_each_read_by_their_own_markers() -> None:
    layouts = [Layout.of(fit("m", version, {"x": NumericColumn(np.arange(20.0), markers=markers), "y": list(range(20))}), Plan())
               for version, markers in (("1", ("NA",)), ("2", ("",)))]  # fmt: skip
    rows = [prediction({"x": value, "y": 1}) for value in ("NA", "", "NA", "")]
    chosen = [Chosen(np.array([0, 1]), layouts[0]), Chosen(np.array([2, 3]), layouts[1])]
    one, other = columns_of(rows, chosen)
    x = one.numeric[layouts[0].numeric.index("x")], other.numeric[layouts[1].numeric.index("x")]
    assert np.isnan(np.concatenate(x)).tolist() == [True, False, False, True]


@pytest.mark.parametrize("value", [-999, -999.0, "-999", "-999.0", " -9.99e2"])
@pytest.mark.parametrize("marker", ["-999", "-999.0"])
def test_a_number_that_stands_for_a_missing_value_does_so_however_it_is_written(marker: str, value: Any) -> None:
    known: dict[str, Any] = {"x": NumericColumn(np.arange(2000.0), markers=(marker, "")), "y": list(range(-1000, 1000))}
    layout = Layout.of(fit("m", "1", known), Plan())
    for features in ({"x": value, "y": -999}, {"x": value, "y": "-999"}):  # packed together, and one by one
        seen = read(features, layout=layout)
        x, y = (layout.numeric.index(name) for name in ("x", "y"))
        assert np.isnan(seen.numeric[x]).tolist() == [True]
        assert seen.numeric[y].tolist() == [-999.0]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_spelled_out_non_numbers_are_not_finite_but_of_the_right_type(value: str) -> None:
    assert cell("x", value) == "nonfinite"
    assert not read({"x": value}).mistyped.any()


def test_booleans_and_integers_are_numbers() -> None:
    assert cell("x", True) == cell("x", 1) == cell("x", 1.0)  # noqa: FBT003 - a feature's value
    assert not read({"x": True}).mistyped.any()


def test_a_value_at_an_edge_belongs_to_the_bin_above_it_and_tails_are_open() -> None:
    edges = plain().signals["x"].edges  # type: ignore[union-attr]
    assert [cell("x", edge) for edge in edges] == [str(place) for place in range(1, len(edges) + 1)]
    assert (cell("x", -1e308), cell("x", 1e308)) == ("0", str(len(edges)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [("red", "red"), ("mauve", "unseen"), (3, "unseen"), (None, "missing"), ("", "unseen"), ("None", "unseen")],
)
def test_categories_are_looked_up_among_the_baselines_levels(value: Any, expected: str) -> None:
    assert cell("colour", value) == expected


def test_what_is_no_text_is_spelled_as_json_before_it_is_looked_up() -> None:
    mixed = Layout.of(fit("m", "1", {"code": ["7", "2.5", "true", "x"]}), Plan())
    found = [cell("code", value, mixed) for value in (7, 7.0, 2.5, True, False)]
    assert found == ["7", "7", "2.5", "true", "unseen"]


@pytest.mark.parametrize(
    ("output", "expected"),
    [({"stays": 0.4, "leaves": 0.6}, "leaves"), ("stays", "stays"), ({}, "missing"), ({"new": 1.0}, "unseen")],
)
def test_probabilities_of_classes_count_as_the_most_probable_one(output: Any, expected: str) -> None:
    assert cell("prediction", output, CLASSES) == expected


def test_a_class_where_a_score_belongs_is_mistyped() -> None:
    place = LAYOUT.signals.index("prediction")
    assert np.argwhere(read({}, {"yes": 1.0}).mistyped).tolist() == [[place, 0]]
    assert cell("prediction", {"yes": 1.0}) == "nonfinite"


def test_a_model_of_a_single_number_is_read_too() -> None:
    single = Layout.of(fit("m", "1", {"x": [float(value) for value in range(20)]}), Plan())
    assert cell("x", 7.5, single) == "7"
    assert cell("x", "odd", single) == "nonfinite"


def test_no_records_make_no_rows() -> None:
    assert columns([], LAYOUT).cells.shape == (4, 0)
