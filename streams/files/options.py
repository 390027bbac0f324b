"""What the operator says about a file: options of `baseline build` and `publish`, over a TOML file beside it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from driftline.detectors.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from driftline.streams.files.schema_inference import Decision
    from driftline.streams.files.table import Table

KINDS = ("numeric", "categorical", "boolean", "ignore")
ROLES = ("prediction", "timestamp", "id")
IDENTITY = ("model", "version", "id", "timestamp")
"""Columns that say which prediction a row is, where nothing else is said."""


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Parameters
    ----------
    kinds
        Column to numeric, categorical, boolean or ignore.
    na
        Texts that stand for a missing value in every column, besides an empty one.
    prediction, timestamp, id
        Columns with the model's output, the event time and the prediction's id. None: those of these names.
    model, version
        Of every row. None: of columns of these names.
    decimal
        The decimal mark. None: a comma where a column proves it, else the point.
    lenient
        Columns whose kinds a schema file tells, not the call.
    sensitive, planned
        Columns whose values are never shown; signals of which the plan says so.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    na: tuple[str, ...] = ()
    prediction: str | None = None
    timestamp: str | None = None
    id: str | None = None
    model: str | None = None
    version: str | None = None
    decimal: str | None = None
    lenient: frozenset[str] = frozenset()
    sensitive: tuple[str, ...] = ()
    planned: frozenset[str] = frozenset()

    def over(self, general: Reading) -> Reading:
        """This reading, with what it leaves open taken from another."""
        said = {each.name: getattr(self, each.name) or getattr(general, each.name) for each in fields(self)}
        said["lenient"] = general.lenient - self.kinds.keys()
        said["sensitive"] = tuple(dict.fromkeys(self.sensitive + general.sensitive))
        return Reading(**(said | {"kinds": {**general.kinds, **self.kinds}}))

    def is_sensitive(self, column: str, signal: str) -> bool:
        """Whether a column's values are never shown, by itself or as the signal that it is."""
        return column in self.sensitive or signal in self.planned

    def checked(self, columns: Collection[str], place: str, *, may_lack: bool = False) -> Reading:
        """This reading, if the file has the columns that it names.

        Parameters
        ----------
        columns
            Those of the file.
        place
            The file, for the message.
        may_lack
            Whether columns of a schema file may be absent, as that of the truth is from predictions.

        Raises
        ------
        OperatorError
            Naming the first one that the file does not have, and those that it has.
        """
        roles = {f"--{role}": getattr(self, role) for role in ROLES if getattr(self, role) is not None}
        told = {
            f"--{kind} {name}": name for name, kind in self.kinds.items() if not may_lack or name not in self.lenient
        }
        told |= {f"--sensitive {name}": name for name in self.sensitive if not may_lack}
        for option, name in ({f"{option} {name}": name for option, name in roles.items()} | told).items():
            if name not in columns:
                raise OperatorError(f"{option}: {place} has no such column; it has {', '.join(columns)}")
        others = self.prediction not in (None, "prediction") and "prediction" in columns
        if others and self.kinds.get("prediction") != "ignore":
            raise OperatorError(
                f"--prediction {self.prediction}: {place} has a column prediction too; --ignore prediction, or rename it"
            )
        return self

    def roles(self, table: Table) -> dict[str, str]:
        """Role to column: which columns say what a row is, and which one is the model's output.

        A column called ``model``, ``version``, ``id`` or ``timestamp`` is a feature like any other where the option of
        that name says otherwise; ``model`` and ``version`` not if the column holds just the name given, in every row.
        """
        names = {column.name: column for column in table.columns}
        found = {role: getattr(self, role) or role for role in ROLES}
        for role in ("model", "version"):
            given = getattr(self, role)
            column = names.get(role)
            if column is not None and given is not None:
                sql = f"SELECT count(*) FROM rows WHERE {column.text} IS DISTINCT FROM ?"
                [[others]] = table.query(sql, [given]).fetchall()
                found |= {} if others else {role: role}
            else:
                found[role] = role
        return {role: name for role, name in found.items() if name in names and self.kinds.get(name) != "ignore"}


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say how a file is read."""
    lists = {
        "ignore": "Columns to leave out.",
        "categorical": "Columns of categories, whatever they look like.",
        "numeric": "Columns of numbers; a text in them counts as not finite.",
        "boolean": "Columns of true and false, or 1 and 0.",
        "na": "Texts that stand for a missing value in every column.",
    }
    for name, text in reversed(lists.items()):
        help_text = f"{text} Separated by commas, or given more than once."
        command = click.option(f"--{name}", multiple=True, metavar="NAME,...", help=help_text)(command)
    for name, text in (("prediction", "the model's output"), ("timestamp", "the event time"), ("id", "the id")):
        help_text = f"Column with {text}; {name!r} if not given."
        command = click.option(f"--{name}", f"{name}_column", metavar="COLUMN", help=help_text)(command)
    decimal = click.option("--decimal", type=click.Choice([".", ","]), help="The decimal mark; found out if not given.")
    schema = click.option(
        "--schema",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="TOML file with all this; FILE.schema.toml if there.",
    )
    return schema(decimal(command))


def reading_of(
    paths: Sequence[str | Path], model: str | None, version: str | None, options: Mapping[str, Any]
) -> Reading:
    """Return what the options of :func:`reading_options` say, over the file beside the data.

    Raises
    ------
    OperatorError
        For a file that can't be read, and a column that is told to be two things.
    """
    kinds: dict[str, str] = {}
    for kind in KINDS:
        for name in _listed(options[kind]):
            if kinds.setdefault(name, kind) != kind:
                raise OperatorError(f"--{kinds[name]} and --{kind} both name {name}; say one")
    said = Reading(
        kinds=kinds,
        na=tuple(dict.fromkeys(_listed(options["na"]))),
        sensitive=tuple(dict.fromkeys(_listed(options.get("sensitive", ())))),
        prediction=options["prediction_column"],
        timestamp=options["timestamp_column"],
        id=options["id_column"],
        model=model,
        version=version,
        decimal=options["decimal"],
    )
    beside = Path(f"{paths[0]}.schema.toml")
    chosen: Path | None = options["schema"] or (beside if beside.exists() else None)
    return said if chosen is None else said.over(read_schema(chosen))


def _listed(values: Sequence[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",")]


def read_schema(path: Path) -> Reading:
    """Read a schema file.

    Raises
    ------
    OperatorError
        Naming the file, the key and the remedy.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OperatorError(
            f"{path}: {error.strerror}; write one with `driftline baseline build FILE --model NAME --version NAME --suggest`"
        ) from error
    except ValueError as error:
        raise OperatorError(f"{path}: is no TOML: {error}") from error
    kinds = found.pop("columns", {})
    lists = {key: found.pop(key, []) for key in ("na", "sensitive")}
    if odd := found.keys() - {*ROLES, "decimal"}:
        raise OperatorError(
            f"{path}: {min(odd)}: no such key; there are {', '.join((*ROLES, 'decimal', *lists))}, columns"
        )
    if not isinstance(kinds, dict):
        raise OperatorError(f"{path}: columns must be a table of names and kinds")
    for key, each in lists.items():
        if not isinstance(each, list):
            raise OperatorError(f"{path}: {key} must be a list")
    texts = [(key, text) for key, each in lists.items() for text in each]
    for key, value in [*found.items(), *kinds.items(), *texts]:
        if not isinstance(value, str) or (key in kinds and key not in found and value not in KINDS):
            raise OperatorError(f"{path}: {key} = {value!r}: must be a text; of a column, {', '.join(KINDS)}")
    if found.get("decimal") not in (None, ".", ","):
        raise OperatorError(f"{path}: decimal = {found['decimal']!r}: must be . or ,")
    na, sensitive = map(tuple, lists.values())
    return Reading(kinds=kinds, na=na, sensitive=sensitive, lenient=frozenset(kinds), **found)


def schema_text(reading: Reading, roles: Mapping[str, str], decimal: str, decisions: Mapping[str, Decision]) -> str:
    """What `--suggest` writes: everything that was decided, to be edited and read again."""
    lines = ["# How driftline reads this file. Edit it, and keep it beside the file or name it with --schema."]
    lines += [f"{role} = {json.dumps(name)}" for role, name in roles.items() if role in ROLES]
    lines += [f"decimal = {json.dumps(decimal)}", f"na = {json.dumps(list(reading.na))}"]
    lines += [f"sensitive = {json.dumps(list(reading.sensitive), ensure_ascii=False)}", "", "[columns]"]
    for name, decision in decisions.items():
        if name not in roles.values() or name == roles.get("prediction"):
            said = decision.profile or "ignore"
            remark = f"{decision.kind}: {decision.reason}" if decision.kind != said else decision.reason
            lines.append(f"{json.dumps(name, ensure_ascii=False)} = {json.dumps(said)}  # {_printable(remark)}")
    return "\n".join(lines) + "\n"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
