"""The configuration for people and their tools: as TOML, as JSON Schema, as the table of the manual.

What a key means stands once, in the docstring of its section's struct; schema and table take it from there.
"""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

import msgspec

from driftline.streams.config.environment import variable_of
from driftline.streams.config.keys import keys
from driftline.streams.config.secret import MASK, Secret
from driftline.streams.config.settings import PASSWORD, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class Key(NamedTuple):
    """One key of the configuration.

    Parameters
    ----------
    name
        With its sections.
    variable
        Its environment variable.
    default
        As TOML; empty where there is none.
    meaning
        What it does, in its unit.
    """

    name: str
    variable: str
    default: str
    meaning: str


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the TOML file, for editors and checks."""
    (root,), components = msgspec.json.schema_components(
        [Settings], schema_hook=_schema_of_secret, ref_template="#/$defs/{name}"
    )
    for kind in _structs(Settings):
        component = components[kind.__name__]
        component["description"] = (kind.__doc__ or "").partition("\n")[0]
        for name, meaning in meanings(kind).items():
            component["properties"][name]["description"] = meaning
    section, key = PASSWORD
    del components[section.capitalize()]["properties"][key]  # refused in a file
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": components}


def shown(settings: Settings) -> str:
    """Return the settings as TOML that ``--config`` takes; keys without a value are left out, secrets are masked."""
    document = msgspec.to_builtins(settings, enc_hook=_masked)
    secret = document["kafka"].pop(PASSWORD[1])
    lines = _table(document, ())
    if secret is not None:
        place = lines.index("[kafka]") + 1
        lines.insert(place, f'# {PASSWORD[1]} = "{MASK}", from {variable_of(".".join(PASSWORD))}')
    return "\n".join(lines).strip() + "\n"


def every_key() -> list[Key]:
    """Return all keys in the code's order, with what they mean."""
    defaults = msgspec.to_builtins(Settings(), enc_hook=_masked)
    found = []
    for name in keys(Settings):
        kind: Any = Settings
        default: Any = defaults
        *sections, last = name.split(".")
        for section in sections:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == section)
            default = default[section]
        value = default[last]
        text = "" if value is None else "{}" if value == {} else _value(value)
        found.append(Key(name, variable_of(name), text, meanings(kind)[last]))
    return found


def markdown_table() -> str:
    """Return the manual's table of all keys."""
    rows = [
        f"| `{key.name}` | `{key.variable}` | {f'`{key.default}`' if key.default else ''} | {key.meaning} |"
        for key in every_key()
    ]
    return "\n".join(["| Key | Environment variable | Default | Meaning |", "|---|---|---|---|", *rows])


def meanings(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return what each field of a struct means, from the section Parameters of its docstring (numpydoc)."""
    text = textwrap.dedent((kind.__doc__ or "").partition("\n")[2])
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^(\S[^\n]*)\n((?:[ ]{4}[^\n]*\n?)+)", section[1] if section else "", re.MULTILINE)
    found: dict[str, str] = {}
    for joined, description in entries:
        names = joined.split(", ")
        meaning = " ".join(description.replace("``", "`").split())
        parts = meaning.rstrip(".").split("; ")  # one each, where there are as many as names
        each = (
            [f"{part[:1].upper()}{part[1:]}." for part in parts] if len(parts) == len(names) else [meaning] * len(names)
        )
        found |= zip(names, each, strict=True)
    return found


def _structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield the struct and those inside it, as sections or as the values of free tables."""
    if get_origin(kind) is dict:
        yield from _structs(get_args(kind)[1])
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for field in msgspec.structs.fields(kind):
            yield from _structs(field.type)


def _schema_of_secret(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string"}
    raise NotImplementedError(kind)


def _masked(value: object) -> str:
    if isinstance(value, Secret):
        return MASK
    raise NotImplementedError(type(value))


def _table(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return a table's lines: its own keys first, as TOML wants them, then the tables inside it."""
    own = [f"{_name(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict | None)]
    lines = ["", f"[{'.'.join(map(_name, path))}]", *own] if path and (own or not table) else own
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table(value, (*path, key))
    return lines


def _name(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """Return a scalar as TOML: as JSON, but for infinities; what could command a terminal is escaped."""
    if isinstance(value, float):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in text)
