from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from math import inf, nan
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.detectors.errors import OperatorError
from driftline.detectors.plan import Plan
from driftline.streams.config.secret import Secret
from driftline.streams.config.settings import Kafka, Settings, load_settings
from tests.logs import Shape, baselines, prediction_log, run, watching

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SASL = {
    "DRIFTLINE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "DRIFTLINE_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
    "DRIFTLINE_KAFKA__SASL_USERNAME": "worker",
    "DRIFTLINE_KAFKA__SASL_PASSWORD": "hunter2",
}


def write(directory: Path, text: str) -> Path:
    path = directory / "driftline.toml"
    path.write_text(text)
    return path


def test_without_file_and_environment_the_defaults_hold() -> None:
    settings = load_settings(None, {"PATH": "/bin", "DRIFTLINE": "not ours", "DRIFTLINE_CONFIG": "the command line's"})
    assert settings == Settings()
    assert settings.plan == Plan()


def test_the_environment_goes_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        [kafka]
        bootstrap_servers = "one:9092,two:9092"
        [worker]
        app_id = "blue"
        snapshot_interval_s = 5
        [plan.models.churn.signals.age.detectors.psi]
        threshold = 0.2
        """,
    )
    environ = {"DRIFTLINE_WORKER__APP_ID": "green", "DRIFTLINE_PLAN__POLICY__PAGE_OF": "5"}
    settings = load_settings(path, environ)
    assert settings.kafka.bootstrap_servers == "one:9092,two:9092"
    assert settings.worker.app_id == "green"
    assert settings.worker.snapshot_interval_s == 5.0
    assert settings.plan.policy.page_of == 5
    assert settings.plan.threshold("psi", "churn", "age") == 0.2
    assert settings.plan.threshold("psi", "churn", "income") is None


def test_a_variable_for_a_table_takes_json() -> None:
    settings = load_settings(None, {"DRIFTLINE_PLAN__DETECTORS": '{"psi": {"threshold": 0.25}}'})
    assert settings.plan.threshold("psi") == 0.25


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load_settings(None, {"DRIFTLINE_WORKER__METRICS_PORT": "", "DRIFTLINE_NO_SUCH": ""}) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kafka]\nbootstrap_server = 'b:1'", "kafka.bootstrap_server = 'b:1': no such key; did you mean kafka.boot"),
        ("window_ms = 5", "window_ms = 5: no such key; did you mean plan.window_ms?"),
        (
            "[plan.models.churn.detectors.psi]\ntreshold = 1",
            "plan.models.churn.detectors.psi.treshold = 1: no such key",
        ),
        ("[plan.detectors.pssi]\nthreshold = 1", "plan.detectors.pssi: no such detector"),
        ("[worker]\nmetrics_port = 99999", "worker.metrics_port = 99999: expected `int` <= 65535"),
        ("[worker]\nmetrics_port = 'x'", "worker.metrics_port = 'x': expected `int`, got `str`"),
        ("[worker]\nsnapshot_interval_s = 0", "worker.snapshot_interval_s = 0: expected `float` > 0"),
        ("[worker]\nsnapshot_interval_s = inf", "worker.snapshot_interval_s = inf: expected `float` <= 86400"),
        ("[worker]\napp_id = 'a b'", "worker.app_id = 'a b': expected `str` matching regex"),
        ("[plan]\nwindow_ms = 0", "plan.window_ms = 0: expected `int` >= 1"),
        ("kafka = 1", "kafka = 1: expected `object`, got `int`"),
        ("[kafka]\nsecurity_protocol = 'TLS'", "kafka.security_protocol = 'TLS': invalid enum value"),
        ("[kafka]\nbootstrap_servers = 'broker'", "kafka.bootstrap_servers = 'broker': write host:port"),
        ("[kafka]\nbootstrap_servers = 'a:1,b:70000'", "write host:port"),
        ("[topics]\nwindows = 'alerts'", "topics.windows = 'alerts': another topic has this name"),
        ("[worker", "not TOML"),
    ],
)
def test_a_wrong_file_is_answered_with_key_value_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(message)):
        load_settings(write(tmp_path, text), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"no\.toml: No such file"):
        load_settings(tmp_path / "no.toml", {})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DRIFTLINE_WORKER__METRICS_PRT", "1", "no such variable; did you mean DRIFTLINE_WORKER__METRICS_PORT?"),
        ("DRIFTLINE_APP_ID", "blue", "did you mean DRIFTLINE_WORKER__APP_ID?"),
        ("DRIFTLINE_WORKER__METRICS_PORT", "ninety", "DRIFTLINE_WORKER__METRICS_PORT = 'ninety': Expected `int`"),
        ("DRIFTLINE_PLAN__MODELS", "churn", "DRIFTLINE_PLAN__MODELS = 'churn': JSON is malformed"),
        ("DRIFTLINE_PLAN__MODELS", '{"churn": {"min_row": 5}}', "plan.models.churn.min_row = 5: no such key"),
    ],
)
def test_a_wrong_variable_is_answered_with_name_value_and_remedy(name: str, value: str, message: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(message)):
        load_settings(None, {name: value})


def kafka_from(**keys: str) -> Kafka:
    return load_settings(None, {f"DRIFTLINE_KAFKA__{key.upper()}": value for key, value in keys.items()}).kafka


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "kafka.security_protocol = 'SASL_SSL': needs kafka.sasl_mechanism"),
        ({"sasl_username": "me"}, "kafka.sasl_username = 'me': kafka.security_protocol PLAINTEXT has no use for it"),
        ({"ssl_cafile": "ca.pem"}, "kafka.ssl_cafile = 'ca.pem': .* has no use for it; set that to SSL or SASL_SSL"),
        ({"security_protocol": "SSL", "ssl_certfile": "c.pem"}, "kafka.ssl_certfile = 'c.pem': name its key"),
        ({"security_protocol": "SSL", "ssl_keyfile": "k.pem"}, "kafka.ssl_keyfile = 'k.pem': name its certificate"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        kafka_from(**keys)


def test_a_readable_password_on_the_wire_is_refused() -> None:
    sasl = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password_file": "secret"}
    with pytest.raises(OperatorError, match=r"kafka\.sasl_mechanism = 'PLAIN': would send the password readable"):
        kafka_from(security_protocol="SASL_PLAINTEXT", **sasl)
    assert kafka_from(security_protocol="SASL_SSL", **sasl).sasl_mechanism == "PLAIN"
    sasl["sasl_mechanism"] = "SCRAM-SHA-256"
    assert kafka_from(security_protocol="SASL_PLAINTEXT", **sasl).sasl_mechanism == "SCRAM-SHA-256"


def test_a_password_has_no_place_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[kafka]\nsasl_password = 'hunter2'")
    with pytest.raises(OperatorError, match="sasl_password_file") as caught:
        load_settings(path, {})
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_password_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="no such key") as in_file:
        load_settings(write(tmp_path, "[kafka]\nsasl_pasword = 'hunter2'"), {})
    with pytest.raises(OperatorError, match="did you mean DRIFTLINE_KAFKA__SASL_PASSWORD") as in_variable:
        load_settings(None, {"DRIFTLINE_KAFKA__SASL_PASWORD": "hunter2"})
    assert "hunter2" not in str(in_file.value) + str(in_variable.value)


def test_a_password_is_kept_but_never_shown() -> None:
    settings = load_settings(None, SASL)
    assert settings.kafka.sasl_password == Secret("hunter2")
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.reveal() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings) + f"{settings.kafka.sasl_password}"
    with pytest.raises(TypeError):  # nor written by accident
        msgspec.json.encode(settings)


def test_two_passwords_are_one_too_many() -> None:
    with pytest.raises(OperatorError, match=r"kafka\.sasl_password_file = 'f': the environment has"):
        load_settings(None, SASL | {"DRIFTLINE_KAFKA__SASL_PASSWORD_FILE": "f"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["kafka", "plan", "models", "detectors", "psi", "churn", "app_id"]), inner, max_size=3
        ),
        max_leaves=8,
    )
)
def test_whatever_a_table_holds_is_settings_or_the_operators_error(table: Any) -> None:
    text = msgspec.json.encode(table).decode()
    for name in ("DRIFTLINE_PLAN__MODELS", "DRIFTLINE_PLAN__DETECTORS"):
        with suppress(OperatorError):
            assert isinstance(load_settings(None, {name: text}), Settings)


def test_the_configuration_is_cheap_to_import() -> None:
    heavy = "faust", "river", "scipy", "numpy", "aiokafka"
    program = f"import sys, driftline.streams.config.settings; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def numeric_keys(
    kind: Any = Settings, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], str, dict[str, Any]]]:
    """Every number of the configuration, those of free tables too, with its kind and its bounds."""
    free = {"detectors": ("psi", "range"), "models": ("churn",), "signals": ("age",)}
    for field in msgspec.structs.fields(kind):
        for each in get_args(field.type) if get_origin(field.type) in (Union, UnionType) else (field.type,):
            inner, *notes = get_args(each) if get_origin(each) is Annotated else (each,)
            if get_origin(inner) is dict:
                for name in free[field.name]:
                    yield from numeric_keys(get_args(inner)[1], (*path, field.name, name))
            elif isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from numeric_keys(inner, (*path, field.name))
            elif inner in (int, float):
                yield (*path, field.name), inner.__name__, {"bounds": notes}


NUMBERS = [(key, kind, notes["bounds"]) for key, kind, notes in numeric_keys()]


def test_every_number_of_the_configuration_is_bounded_on_both_sides() -> None:
    assert len(NUMBERS) > 30
    for key, _, bounds in NUMBERS:
        assert bounds, key
        (note,) = bounds
        assert (note.ge, note.gt) != (None, None), key
        assert (note.le, note.lt) != (None, None), key


def extremes(kind: str, bounds: Any) -> list[Any]:
    """Values that break arithmetic elsewhere, and the least and the most that are allowed."""
    (note,) = bounds
    allowed = [each for each in (note.ge, note.le) if each is not None]
    return [0, -1, 2**62, *([nan, inf, -inf] if kind == "float" else []), *allowed]


@pytest.mark.parametrize(
    ("key", "kind", "bounds"), NUMBERS, ids=lambda each: ".".join(each) if isinstance(each, tuple) else ""
)
def test_every_number_is_refused_by_name_or_a_pipeline_runs_with_it(
    tmp_path: Path, key: tuple[str, ...], kind: str, bounds: Any
) -> None:
    *tables, name = key
    log = prediction_log(3, Shape(n=200))
    for number in extremes(kind, bounds):
        try:
            settings = load_settings(write(tmp_path, f"[{'.'.join(tables)}]\n{name} = {number}"), {})
        except OperatorError as error:
            assert re.search(rf"{re.escape('.'.join(tables))}\.\w+", str(error)), error  # noqa: PT017 - it names the key
            assert name in str(error)  # noqa: PT017
            continue
        if key[0] == "plan":
            with suppress(OperatorError):  # a baseline too large for it, which names the key as well
                run(log, watching(settings.plan, *baselines()))
