"""What a configuration key that does not exist is answered: the key, its value, the nearest right one."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

import msgspec

from driftline.detectors.errors import OperatorError
from driftline.streams.config.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def no_such_key(path: tuple[str, ...], value: Any, known: Iterable[str], root: type[msgspec.Struct]) -> OperatorError:
    """Return the error for a key that does not exist.

    Parameters
    ----------
    path
        The key with the tables it stands in.
    value
        What it was set to.
    known
        Keys that exist in its table.
    root
        The whole configuration: the key may have been meant for another section.
    """
    beside = [".".join((*path[:-1], key)) for key in known]
    name = ".".join(path)
    return OperatorError(f"{name} = {printable_value(name, value)}: no such key{nearest(name, [*beside, *keys(root)])}")


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the end of the message: what was probably meant.

    Examples
    --------
    >>> nearest("kafka.bootstrap_server", ["kafka.bootstrap_servers", "worker.app_id"])
    '; did you mean kafka.bootstrap_servers?'
    """
    found = difflib.get_close_matches(name, candidates, n=1)
    return f"; did you mean {found[0]}?" if found else "; `driftline config schema` lists every key"


def keys(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    """Yield every key that has a name of its own, with its sections, in the code's order."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def printable_value(key: str, value: Any) -> str:
    """Return a value as a message may show it: not at all where the key, even misspelt, is about a secret.

    Examples
    --------
    >>> printable_value("worker.metrics_port", 9108), printable_value("kafka.sasl_pasword", "hunter2")
    ('9108', '********')
    """
    is_secret = any(word in key.lower() for word in SECRET_WORDS) and not key.lower().endswith("_file")
    return MASK if is_secret else repr(value)


SECRET_WORDS = ("pass", "pasw", "pwd", "secret", "token")
