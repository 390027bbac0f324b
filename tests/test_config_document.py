from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.plan import DETECTORS, plan_from
from driftline.streams.config.document import Key, every_key, markdown_table, schema, shown
from driftline.streams.config.environment import from_environment
from driftline.streams.config.settings import Settings, load_settings

MANUAL = Path(__file__).parents[1] / "docs" / "configuration.md"


def reread(settings: Settings, directory: Path) -> Settings:
    path = directory / "shown.toml"
    path.write_text(shown(settings), encoding="utf-8")
    return load_settings(path, {})


def test_the_defaults_can_be_shown_and_read_again(tmp_path: Path) -> None:
    assert reread(Settings(), tmp_path) == Settings()


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
model_names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="|"), min_size=1, max_size=8)
rule = st.fixed_dictionaries({}, optional={"threshold": st.floats(1e-300, 0.999), "enabled": st.booleans()})
bounds = st.fixed_dictionaries({}, optional={"low": st.floats(-9.0, 0.0), "high": st.floats(0.0, 9.0)})
rules = st.fixed_dictionaries({}, optional={"psi": rule, "marginal": rule, "range": bounds})
models = st.dictionaries(
    model_names,
    st.fixed_dictionaries(
        {},
        optional={
            "detectors": rules,
            "min_rows": st.integers(1, 10**9),
            "signals": st.dictionaries(names, st.fixed_dictionaries({}, optional={"detectors": rules}), max_size=2),
        },
    ),
    max_size=2,
)


@given(models)
def test_whatever_models_are_called_the_settings_can_be_shown_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, own: dict[str, Any]
) -> None:
    settings = Settings(plan=plan_from({"models": own}))
    assert reread(settings, tmp_path_factory.mktemp("shown")) == settings


def test_a_password_is_masked() -> None:
    environ = {
        "DRIFTLINE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "DRIFTLINE_KAFKA__SASL_MECHANISM": "PLAIN",
        "DRIFTLINE_KAFKA__SASL_USERNAME": "worker",
        "DRIFTLINE_KAFKA__SASL_PASSWORD": "hunter2",
    }
    text = shown(load_settings(None, environ))
    assert "hunter2" not in text
    assert '# sasl_password = "********", from DRIFTLINE_KAFKA__SASL_PASSWORD' in text


def test_the_schema_takes_what_is_shown_and_refuses_what_is_refused() -> None:
    validator = jsonschema_rs.Draft202012Validator(schema())
    assert validator.is_valid(tomllib.loads(shown(Settings())))
    assert validator.is_valid({"plan": {"models": {"churn": {"detectors": {"psi": {"threshold": 0.2}}}}}})
    for wrong in (
        {"kafka": {"bootstrap_server": "b:1"}},
        {"kafka": {"sasl_password": "hunter2"}},
        {"worker": {"metrics_port": 70_000}},
        {"plan": {"models": {"churn": {"min_row": 5}}}},
    ):
        assert not validator.is_valid(wrong), wrong


@pytest.mark.parametrize("section", ["Settings", "Kafka", "Topics", "Worker", "Plan", "AlertPolicy", "Rule"])
def test_the_schema_says_what_every_key_means(section: str) -> None:
    for key, described in schema()["$defs"][section]["properties"].items():
        assert described.get("description"), key


@pytest.mark.parametrize("key", every_key(), ids=lambda key: key.name)
def test_every_key_has_a_variable_and_a_meaning(key: Key) -> None:
    value = key.default.strip('"') or {"kafka.sasl_mechanism": "PLAIN", "worker.metrics_port": "9108"}.get(
        key.name, "text"
    )
    (understood,) = from_environment(Settings, {key.variable: value})
    assert ".".join(understood.keys) == key.name
    assert str(understood.value) == value
    assert key.meaning


def test_the_manual_has_the_table_of_the_code() -> None:
    assert markdown_table() in MANUAL.read_text(encoding="utf-8"), "run scripts/configuration_table"


def test_the_manual_names_every_detector() -> None:
    _, _, listed = MANUAL.read_text(encoding="utf-8").partition("The detectors: ")
    assert set(re.findall(r"`(\w+)`", listed.partition(".\n")[0])) == set(DETECTORS)
