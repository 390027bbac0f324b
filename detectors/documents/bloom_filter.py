"""Levels beyond the cap of a profile, as a set of hashes: a few bits tell a known level from one never seen.

A Bloom filter: each level sets four of its bits. A level of the set is always found. One that is not is taken for a
member with the probability that all its four bits are set: about .002 for a thousand levels, .07 for three thousand; with
tens of thousands in a set of bounded size nearly always.

References
----------
Bloom (1970), Space/time trade-offs in hash coding with allowable errors, Communications of the ACM 13(7), 422-426.
"""

import base64
import hashlib
import struct
from collections.abc import Collection

BITS_PER_LEVEL, FEWEST_BITS, MOST_BITS = 12, 2**6, 2**14
"""A set of n levels has at least 12 n bits, rounded up to a power of two; at most 2 KB."""
_HASHES = struct.Struct("<4H")


class FurtherLevels:
    """A set of levels that can be asked, not listed.

    Parameters
    ----------
    text
        What :func:`packed` made; empty for no levels.

    Examples
    --------
    >>> further = FurtherLevels(packed(["red", "green"]))
    >>> "red" in further, "green" in further, "mauve" in further
    (True, True, False)
    """

    __slots__ = ("_bits", "_mask")

    def __init__(self, text: str) -> None:
        self._bits = base64.b64decode(text)
        self._mask = 8 * len(self._bits) - 1

    def __contains__(self, level: str) -> bool:
        bits = self._bits
        return bool(bits) and all(bits[at >> 3] >> (at & 7) & 1 for at in _places(level, self._mask))

    def __bool__(self) -> bool:
        return bool(self._bits)

    @property
    def mistaken(self) -> float:
        """Probability that a level that is not in the set is taken for one that is."""
        n_set = int.from_bytes(self._bits, "little").bit_count()
        return (n_set / max(1, 8 * len(self._bits))) ** 4


def packed(levels: Collection[str]) -> str:
    """Make such a set, as text for a profile."""
    if not levels:
        return ""
    n_bits = min(MOST_BITS, max(FEWEST_BITS, 1 << (BITS_PER_LEVEL * len(levels) - 1).bit_length()))
    bits = bytearray(n_bits // 8)
    for level in levels:
        for at in _places(level, n_bits - 1):
            bits[at >> 3] |= 1 << (at & 7)
    return base64.b64encode(bits).decode()


def is_level_set(text: str) -> bool:
    """Whether a text is such a set: base64 of a power of two of bits, none or at most ``MOST_BITS``."""
    try:
        n_bits = 8 * len(base64.b64decode(text, validate=True))
    except ValueError:
        return False
    return n_bits <= MOST_BITS and n_bits & (n_bits - 1) == 0


def _places(level: str, mask: int) -> list[int]:
    digest = hashlib.blake2b(level.encode(errors="surrogatepass"), digest_size=8).digest()
    return [each & mask for each in _HASHES.unpack(digest)]
