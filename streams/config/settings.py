"""The configuration: one TOML file, environment variables over it, checked whole before anything starts.

It is a frozen value. Importing this module is cheap: neither Faust nor river nor scipy comes with it.
"""

from __future__ import annotations

import tomllib
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from driftline.detectors.errors import Misfit, OperatorError
from driftline.detectors.plan import Plan, plan_from
from driftline.detectors.validation import validated
from driftline.streams.config.checks import misfits
from driftline.streams.config.environment import VARIABLE_PREFIX, from_environment
from driftline.streams.config.keys import no_such_key, printable_value
from driftline.streams.config.secret import MASK, Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REMEDY = "`driftline config schema` lists every key"

TopicName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Count = Annotated[int, Meta(ge=1, le=10**6)]
Bytes = Annotated[int, Meta(ge=1, le=2**30)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class Kafka(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where Kafka is and how to speak to it.

    Parameters
    ----------
    bootstrap_servers
        ``host:port``, several separated by commas.
    security_protocol
        Kafka's name for the transport.
    sasl_mechanism
        How the user name and the password are proved; with SASL_PLAINTEXT and SASL_SSL.
    sasl_username
        User name; with SASL_PLAINTEXT and SASL_SSL.
    sasl_password_file
        File that holds the password and nothing else; a line break at its end is dropped.
    sasl_password
        The password itself, from the environment only: a configuration file is no place for it.
    ssl_cafile
        PEM file of the authorities to trust, instead of the system's.
    ssl_certfile
        PEM file of this client's certificate, where the broker asks for one.
    ssl_keyfile
        PEM file of its key.
    """

    bootstrap_servers: str = "localhost:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: str | None = None
    sasl_password_file: str | None = None
    sasl_password: Secret | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None

    @property
    def uses_sasl(self) -> bool:
        """Whether the client proves who it is by a password."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.security_protocol.endswith("SSL")


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Names of the topics.

    Parameters
    ----------
    predictions
        What the services publish.
    baselines
        Baseline profiles, compacted.
    partials
        What stage 1 tells stage 2.
    windows
        The verdict of every judged window.
    alerts
        Alerts; compacted, it is the table of open ones.
    dead_letters
        Records that could not be used, with the reason.
    """

    predictions: TopicName = "predictions"
    baselines: TopicName = "baselines"
    partials: TopicName = "partials"
    windows: TopicName = "windows"
    alerts: TopicName = "alerts"
    dead_letters: TopicName = "dead-letters"


class Worker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a worker runs; nothing here changes a verdict.

    Parameters
    ----------
    app_id
        Workers of one app_id share the work: it is their consumer group and the prefix of their changelog topics.
    metrics_host
        Address that serves metrics and health; 0.0.0.0 lets other machines in.
    metrics_port
        Its port; 0 takes any free one. Left out: 9108, or the next free one of twenty where that is taken.
    snapshot_interval_s
        Seconds between snapshots: after a crash at most so much is read again.
    session_timeout_s
        Seconds after which a vanished worker's partitions go to the others.
    max_record_bytes
        A longer record goes to the dead letters.
    max_batch_bytes
        A record batch that would unpack to more is rejected.
    max_dead_letters_per_minute
        Beyond so many a worker writes no more dead letters; the records are counted all the same.
    instance_id
        Kafka's static membership: with a name of its own, a worker that comes back in time keeps its partitions.
    max_batch_records
        Records of one partition that are taken at once.
    """

    app_id: TopicName = "driftline"
    metrics_host: str = "127.0.0.1"
    metrics_port: Port | None = None
    snapshot_interval_s: Seconds = 10.0
    session_timeout_s: Seconds = 10.0
    max_record_bytes: Bytes = 1_048_576
    max_batch_bytes: Bytes = 33_554_432
    max_dead_letters_per_minute: Count = 10_000
    instance_id: str | None = None
    max_batch_records: Count = 10_000


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration.

    Parameters
    ----------
    kafka
        Where Kafka is.
    topics
        What the topics are called.
    worker
        How a worker runs.
    plan
        What is watched and how strictly: the only section that decides a verdict.
    """

    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    worker: Worker = Worker()
    plan: Plan = Plan()


def load_settings(
    path: Path | None, environ: Mapping[str, str], options: Mapping[str, str] = MappingProxyType({})
) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    path
        A TOML file; None for the defaults.
    environ
        Environment variables; those that begin with ``DRIFTLINE_`` go over the file. ``DRIFTLINE_WORKER__APP_ID`` is
        ``app_id`` in section ``worker``; a key that is a table takes JSON.
    options
        Key, with its section, to what the command line says; goes over both.

    Raises
    ------
    OperatorError
        Naming the key or the variable, its value and the remedy.

    Examples
    --------
    >>> load_settings(None, {"DRIFTLINE_WORKER__APP_ID": "blue"}).worker.app_id
    'blue'
    """
    document = {} if path is None else _read(path)
    _check_keys(Settings, document, ())
    password = None
    for variable in from_environment(Settings, environ):
        if variable.keys == PASSWORD:
            password = Secret(str(variable.value))
        else:
            _put(document, variable.keys, variable.value)
    for name, value in options.items():
        _put(document, tuple(name.split(".")), value)
    _check_keys(Settings, document, ())
    settings = _converted(document)
    if password is not None:
        settings = msgspec.structs.replace(
            settings, kafka=msgspec.structs.replace(settings.kafka, sasl_password=password)
        )
    for misfit in misfits(settings):
        raise OperatorError(f"{misfit.key} = {printable_value(misfit.key, misfit.value)}: {misfit.remedy}")
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(f"--config {path}: {error.strerror}; give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"--config {path}: not TOML: {error}") from error
    if "sasl_password" in (section if isinstance(section := document.get("kafka"), dict) else {}):
        raise OperatorError(
            f"kafka.sasl_password = {MASK}: a configuration file is no place for it; put it into a file of its own "
            f"and name that in kafka.sasl_password_file, or set {VARIABLE_PREFIX}KAFKA__SASL_PASSWORD"
        )
    return document


def _put(document: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    table = document
    for key in keys[:-1]:
        if not isinstance(table.setdefault(key, {}), dict):
            return  # the file has no table there, which is what will be complained of
        table = table[key]
    table[keys[-1]] = value


def _check_keys(kind: Any, value: Any, path: tuple[str, ...]) -> None:
    """Refuse keys that do not exist, wherever they stand."""
    if not isinstance(value, dict):
        return
    if get_origin(kind) is dict:
        for key, inner in value.items():
            _check_keys(get_args(kind)[1], inner, (*path, key))
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        for key, inner in value.items():
            if key not in types:
                raise no_such_key((*path, key), inner, known=types, root=Settings)
            _check_keys(types[key], inner, (*path, key))


def _converted(document: dict[str, Any]) -> Settings:
    try:
        settings = validated(document, Settings)
    except Misfit as misfit:
        key = ".".join(misfit.path)
        raise OperatorError(f"{key} = {printable_value(key, misfit.value)}: {misfit.reason}; {REMEDY}") from misfit
    plan_from(document.get("plan", {}))  # its rules, and which values go together
    return settings


PASSWORD = ("kafka", "sasl_password")
