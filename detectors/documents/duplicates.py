"""How often the records of a window repeat one another: a bounded sample of their ids.

A producer that sends records twice makes every count of a window twice as large and its noise no smaller, so tests would
take chance for drift. A record is a repetition if it has the id, the features and the prediction of another one in its
window: a service that gives users' ids as ids, with other features each time, repeats nothing. Records without an id
do not take part.

The sample holds the records with the smallest hashes, and how often each came. It does not depend on the order or the
cut of the log, and samples of partitions add up to that of all: whatever is among the smallest of all is among the
smallest of its part.

References
----------
Bar-Yossef, Jayram, Kumar, Sivakumar and Trevisan (2002), Counting distinct elements in a data stream, RANDOM.
Dietzfelbinger (1996), Universal hashing and k-wise independent random variables via integer arithmetic without
primes, STACS.
Kish (1965), Survey Sampling, on the design effect.
"""

import functools
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from zlib import crc32

import numpy as np

from driftline.detectors.arrays import F64, I64, U64
from driftline.detectors.documents.predictions import Prediction
from driftline.detectors.errors import DamagedState

SAMPLE = 128
"""Distinct records that a window samples."""
MOST_UNSORTED = 4 * SAMPLE
NO_ID = -1
NO_KEY = np.uint64(2**64 - 1)
_HALF = np.uint64(32)
_HEAD = struct.Struct("<QH")
_NONE, _ONCE = np.empty(0, np.uint64), np.empty(0, np.int64)


def id_hashes(predictions: Sequence[Prediction]) -> I64:
    """Hashes of records' ids, shape (n,); ``NO_ID`` where there is none. The order among them decides who is sampled."""
    ids = list(map(attrgetter("id"), predictions))
    if ids.count(None) == len(ids):
        return np.full(len(ids), NO_ID, np.int64)
    try:
        return np.fromiter(map(crc32, map(str.encode, ids)), np.int64, len(ids))
    except TypeError:  # not all of them are text
        pass
    return np.array([NO_ID if each is None else crc32(str(each).encode()) for each in ids], np.int64)


@dataclass(slots=True, eq=False)
class Duplicates:
    """Repetitions in one window.

    Parameters
    ----------
    n
        Records with an id.
    keys, times
        The sampled records' keys, ascending, and how often each came.
    unsorted
        Keys of records that are not in the sample yet, each as often as it came.
    """

    n: int = 0
    keys: U64 = field(default_factory=lambda: _NONE)
    times: I64 = field(default_factory=lambda: _ONCE)
    unsorted: list[U64] = field(default_factory=list)

    def add(self, keys: U64) -> None:
        """Count records by their keys: see ``record_keys``."""
        keys = keys[keys != NO_KEY]
        self.n += keys.size
        if self.keys.size == SAMPLE:
            keys = keys[keys <= self.keys[-1]]
        if keys.size:
            self.unsorted.append(keys)
            if sum(map(len, self.unsorted)) > MOST_UNSORTED:
                self._settle()

    def _settle(self) -> None:
        """Take what is unsorted into the sample."""
        if not self.unsorted:
            return
        added = np.concatenate(self.unsorted)
        added.sort()
        self.unsorted = []
        if self.keys.size or (added[1:] == added[:-1]).any():
            times = np.concatenate([self.times, np.ones(added.size, np.int64)])
            self.keys, self.times = _smallest(np.concatenate([self.keys, added]), times)
        else:
            self.keys = added[:SAMPLE]
            self.times = np.ones(self.keys.size, np.int64)

    @classmethod
    def merged(cls, parts: Iterable["Duplicates"]) -> "Duplicates":
        """Add up partitions' samples, in whatever order."""
        n, keys, times = 0, [_NONE], [_ONCE]
        for part in parts:
            part._settle()  # noqa: SLF001 - of this class
            n += part.n
            keys.append(part.keys)
            times.append(part.times)
        return cls(n, *_smallest(np.concatenate(keys), np.concatenate(times)))

    def repeated(self, n: int) -> float:
        """Share of a window's n records that repeat another one.

        Examples
        --------
        Of eight records six have an id; of the sampled three, one came twice.

        >>> Duplicates(6, np.array([1, 2], np.uint64), np.array([2, 1])).repeated(8)
        0.25
        """
        self._settle()
        sampled = int(self.times.sum())
        return (1 - self.times.size / sampled) * self.n / n if sampled and n else 0.0

    def design_effect(self, n: int) -> float:
        r"""Variance of a window's counts over that of n different records: :math:`\sum c_i^2 / \sum c_i`, 1 without ids.

        Examples
        --------
        Everything came twice; then one of three sampled records is a repetition.

        >>> keys = np.array([1, 2], np.uint64)
        >>> Duplicates(4, keys, np.array([2, 2])).design_effect(4), Duplicates(6, keys, np.array([2, 1])).design_effect(6)
        (2.0, 1.666667)
        """
        self._settle()
        first, second = int(self.times.sum()), int((self.times * self.times).sum())
        return 1.0 + (second / first - 1) * self.n / n if first and n else 1.0

    def dump(self) -> bytes:
        """As bytes: the number of records, the sample in order, and its counts where any is above 1."""
        if not self.n:
            return b""
        self._settle()
        counts = self.times.astype("<u4").tobytes() if (self.times > 1).any() else b""
        return _HEAD.pack(self.n, self.keys.size) + self.keys.astype("<u8").tobytes() + counts

    @classmethod
    def load(cls, raw: bytes) -> "Duplicates":
        """From such bytes.

        Raises
        ------
        DamagedState
            For other bytes.
        """
        if not raw:
            return cls()
        try:
            n, size = _HEAD.unpack_from(raw)
            keys = np.frombuffer(raw, "<u8", size, _HEAD.size).astype(np.uint64)
            rest = raw[_HEAD.size + 8 * size :]
            times = np.frombuffer(rest, "<u4").astype(np.int64) if rest else np.ones(size, np.int64)
        except (struct.error, ValueError) as error:
            raise DamagedState(f"sample of records: {error}") from error
        if times.size != size:
            raise DamagedState(f"sample of records: {size} keys, {times.size} counts")
        return cls(n, keys, times)


def is_sample(raw: bytes) -> bool:
    """Whether bytes are a sample of no more records than a window samples.

    Examples
    --------
    >>> is_sample(Duplicates(6, np.array([1, 2], np.uint64), np.array([2, 1])).dump()), is_sample(b""), is_sample(b"123")
    (True, True, False)
    """
    size = _HEAD.unpack_from(raw)[1] if len(raw) >= _HEAD.size else SAMPLE + 1
    return not raw or (size <= SAMPLE and len(raw) - _HEAD.size in (8 * size, 12 * size))


def record_keys(hashes: I64, numeric: F64, cells: I64) -> U64:
    r"""Keys of n records: the hash of the id in the upper half, in the lower one a hash of what the record says.

    Parameters
    ----------
    hashes
        Hashes of ids, shape (n,), as of ``id_hashes``; the key is ``NO_KEY`` where there is no id.
    numeric, cells
        Numbers, shape (signals, n), and the cells of categories, likewise.

    Notes
    -----
    What a record says is hashed by multiplying and shifting, :math:`\sum a_i x_i \gg 32` with odd :math:`a_i` (Dietzfelbinger,
    1996). The upper bits of a number, which differ most, are folded on the lower ones before.
    """
    has_id = hashes != NO_ID
    if not has_id.any():
        return np.full(hashes.size, NO_KEY)
    said = np.concatenate([np.ascontiguousarray(numeric).view(np.uint64), cells.astype(np.uint64)])
    said ^= said >> _HALF
    said *= _factors(len(said))
    keys = hashes.astype(np.uint64) << _HALF | said.sum(axis=0, dtype=np.uint64) >> _HALF
    return keys if has_id.all() else np.where(has_id, keys, NO_KEY)


@functools.lru_cache(maxsize=64)
def _factors(n: int) -> U64:
    """Odd factors, shape (n, 1), the same for every worker and for ever."""
    drawn = np.frombuffer(hashlib.shake_128(b"driftline").digest(8 * n), "<u8").astype(np.uint64)
    return (drawn | np.uint64(1))[:, None]


def thinned(counts: I64, design_effect: F64) -> I64:
    """Counts of rows of cells as of so many fewer different records: cells next to one another keep their sum.

    Parameters
    ----------
    counts
        Shape (rows, cells).
    design_effect
        At least 1, shape (rows,); rows of which it is 1 stay as they are.

    Examples
    --------
    >>> thinned(np.array([[4, 2, 6], [3, 3, 3], [4, 2, 6]]), np.array([2.0, 1.5, 1.0])).tolist()
    [[2, 1, 3], [2, 2, 2], [4, 2, 6]]
    """
    sums = np.floor(counts.cumsum(axis=1) / design_effect[:, None] + 0.5).astype(np.int64)
    return np.diff(sums, axis=1, prepend=0)


def _smallest(keys: U64, times: I64) -> tuple[U64, I64]:
    """The smallest keys, ascending, each with all of its times."""
    distinct, place = np.unique(keys, return_inverse=True)
    summed = np.bincount(place, times, distinct.size).astype(np.int64)
    return distinct[:SAMPLE], summed[:SAMPLE]
