"""Hashes that stand for the levels of a sensitive signal: a profile tells levels apart and names none.

The key is the model's and the signal's name, so equal values of two signals can't be matched. It is no secret: whoever has
a baseline can try values, and finds one of which there are few (a country, a yes) at once.
"""

import hashlib
from collections.abc import Iterable

from driftline.detectors.documents.alerts import digest


def key_of(model: str, signal: str) -> str:
    """What the hashes of a model's signal are keyed with, the same in all its versions.

    Examples
    --------
    >>> key_of("churn", "diagnosis") == key_of("churn", "city")
    False
    """
    return digest(model, signal)


def hashed(level: str, key: str) -> str:
    """A level's hash: 64 bits of BLAKE2b, in hexadecimal digits."""
    return hashlib.blake2b(level.encode(errors="surrogatepass"), digest_size=8, key=key.encode()).hexdigest()


class HashedLevels:
    """A set of levels of which only the hashes are known.

    Examples
    --------
    >>> known = HashedLevels([hashed("red", "key")], "key")
    >>> "red" in known, "blue" in known
    (True, False)
    """

    def __init__(self, hashes: Iterable[str], key: str) -> None:
        self._hashes, self._key = frozenset(hashes), key

    def __contains__(self, level: object) -> bool:
        return isinstance(level, str) and hashed(level, self._key) in self._hashes
