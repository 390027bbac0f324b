"""Turn a document of plain values into a struct, and name the key that does not fit."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from driftline.detectors.errors import Misfit

Value = TypeVar("Value")


def validated(document: Any, kind: type[Value], path: tuple[str, ...] = ()) -> Value:
    """Convert a document.

    Parameters
    ----------
    document
        Tables, lists and plain values.
    kind
        What it must become.
    path
        Where the document stands.

    Raises
    ------
    Misfit
        Naming the key with every table above it, even those whose names are free.

    Examples
    --------
    >>> from typing import Annotated
    >>> Positive = Annotated[int, msgspec.Meta(ge=1)]
    >>> validated({"churn": 5}, dict[str, Positive])
    {'churn': 5}
    >>> validated({"churn": 5, "fraud": 0}, dict[str, Positive], ("models",))
    Traceback (most recent call last):
    ...
    driftline.detectors.errors.Misfit: models.fraud = 0: expected `int` >= 1
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        for key, inner, inner_kind in _children(document, kind):
            validated(inner, inner_kind, (*path, key))
        reason = str(error).partition(" - at `$")[0]
        reason = reason.replace(" | null", "")  # leaving a key out is how TOML says null
        raise Misfit(path, document, f"{reason[:1].lower()}{reason[1:]}") from None


def _children(document: Any, kind: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a table holds, with the type that each must have."""
    if not isinstance(document, Mapping):
        return
    for each in _alternatives(kind):
        if get_origin(each) is dict:
            yield from ((str(key), inner, get_args(each)[1]) for key, inner in document.items())
        elif isinstance(each, type) and issubclass(each, msgspec.Struct):
            types = {field.encode_name: field.type for field in msgspec.structs.fields(each)}
            yield from ((key, inner, types[key]) for key, inner in document.items() if key in types)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
