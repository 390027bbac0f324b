"""Environment variables as a part of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_origin

import msgspec

from driftline.detectors.errors import OperatorError
from driftline.streams.config.keys import keys, nearest, printable_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VARIABLE_PREFIX = "DRIFTLINE_"
OWN_VARIABLES = frozenset({"DRIFTLINE_CONFIG"})
"""Variables of the command line, not of the configuration."""


class Variable(NamedTuple):
    """One variable, understood.

    Parameters
    ----------
    keys
        The key with the sections it stands in.
    value
        Its value, of the key's type; a secret as a plain string.
    """

    keys: tuple[str, ...]
    value: Any


def from_environment(root: type[msgspec.Struct], environ: Mapping[str, str]) -> Iterator[Variable]:
    """Yield what the environment says about the configuration, by variable name.

    An empty variable counts as not set: composition tools hand on variables that nobody set as empty.

    Raises
    ------
    OperatorError
        For a variable that begins with ``DRIFTLINE_`` and is no key, or whose value does not fit.
    """
    variables = {variable_of(key): key for key in keys(root)}
    for name, text in sorted(environ.items()):
        if not name.startswith(VARIABLE_PREFIX) or name in OWN_VARIABLES or not text:
            continue
        if name not in variables:
            hint = nearest(name, variables)
            raise OperatorError(f"{name} = {printable_value(name, text)}: no such variable{hint}")
        path = tuple(variables[name].split("."))
        yield Variable(path, _understood(name, text, _type_of(root, path)))


def variable_of(key: str) -> str:
    """Return the name of a key's environment variable.

    Examples
    --------
    >>> variable_of("worker.app_id")
    'DRIFTLINE_WORKER__APP_ID'
    """
    return VARIABLE_PREFIX + key.upper().replace(".", "__")


def _type_of(root: type[msgspec.Struct], path: tuple[str, ...]) -> Any:
    kind: Any = root
    for key in path:
        kind = next(field.type for field in msgspec.structs.fields(kind) if field.name == key)
    return kind


def _understood(name: str, text: str, kind: Any) -> Any:
    if "sasl_password" in name.lower():
        return text
    try:
        if get_origin(kind) is dict:
            return msgspec.json.decode(text, type=dict[str, Any])
        return msgspec.convert(text, kind, strict=False)  # a variable is always text: "9108" is a number here
    except msgspec.DecodeError as error:
        expects = "a JSON object" if get_origin(kind) is dict else "a value of the key's type"
        reason = str(error).replace(" | null", "")
        raise OperatorError(f"{name} = {printable_value(name, text)}: {reason}; it takes {expects}") from error
