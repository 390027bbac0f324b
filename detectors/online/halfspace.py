"""Half-space trees, scored and learned by whole batches.

Trees cut the unit cube at random; a row is the more anomalous, the fewer rows of the window before fell into its half
spaces. Scores are exactly those of ``river.anomaly.HalfSpaceTrees`` fed row by row. Rows are complete: the caller
scales them to [0, 1] and puts something in place of what is missing.

References
----------
Tan, Ting and Liu (2011), Fast anomaly detection for streaming data, IJCAI, 1511-1516.
"""

import functools
import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.detectors.arrays import F64, I64, Ints
from driftline.detectors.errors import DamagedState

PADDING = 0.15
"""A cut keeps this share of its range's width from either end of the range."""
SPARSE_SHARE = 0.1
"""A path ends at the first node that fewer than this share of a window's rows reached (the paper's SizeLimit)."""
BLOCK = 1024
"""Rows that go down the trees together: their intermediate arrays then stay in the processor's cache."""
WINDOWS_AT_ONCE = 8


@dataclass(frozen=True, eq=False)
class Trees:
    """Complete trees of equal height over the unit cube, laid out as one heap.

    Level k of all trees lies at ``n_trees * 2**k + tree * 2**k + place``, so the children of node i are 2i and 2i + 1
    whatever the tree. The first ``n_trees`` elements are unused.

    Parameters
    ----------
    n_features, n_trees, height
        A tree has ``2**height - 1`` cuts and ``2**height`` leaves.
    features
        Column that each node looks at, shape (n_trees * 2**height,).
    thresholds
        Values below it go to child 2i, all others to 2i + 1, shape (n_trees * 2**height,).
    """

    n_features: int
    n_trees: int
    height: int
    features: I64
    thresholds: F64


@functools.lru_cache(maxsize=64)
def grow(n_features: int, n_trees: int = 25, height: int = 8, seed: int = 1) -> Trees:
    """Grow the trees that river grows with this seed, for features whose names sort in column order.

    Random numbers are drawn in river's order (tree by tree, parents first, left before right), two for each node:
    the first picks a feature in proportion to the width that the node has left of it, the second a threshold. Trees
    depend on nothing else, so models with equally many features share them and a state need not hold them.

    Parameters
    ----------
    n_features
        Number of columns, at least 1.
    n_trees, height
        Of the forest.
    seed
        Of Python's Mersenne twister.

    Examples
    --------
    The first random number of seed 1 is .134, the second .847: of four features the first is picked, and the
    threshold is .15 + .7 * .847.

    >>> trees = grow(4, n_trees=1, height=1)
    >>> trees.features[1:].tolist(), trees.thresholds[1:].tolist()
    ([0], [0.743])
    """
    twister = random.Random(seed)  # noqa: S311 - the forest is meant to be reproducible
    n_cuts = 2**height - 1
    drawn = np.array([twister.random() for _ in range(n_trees * n_cuts * 2)]).reshape(n_trees, n_cuts, 2)
    features = np.zeros(n_trees * 2**height, np.int64)
    thresholds = np.zeros(n_trees * 2**height)
    low, high = np.zeros((n_trees, 1, n_features)), np.ones((n_trees, 1, n_features))
    turn = np.zeros(1, np.int64)  # when each node of this level had its turn, parents first
    for level in range(height):
        pick, cut = _cuts(low, high, drawn[:, turn])
        here = slice(n_trees << level, n_trees << level + 1)
        features[here], thresholds[here] = pick.ravel(), cut.ravel()
        low, high = low.repeat(2, axis=1), high.repeat(2, axis=1)
        np.put_along_axis(high[:, 0::2], pick[..., None], cut[..., None], axis=2)
        np.put_along_axis(low[:, 1::2], pick[..., None], cut[..., None], axis=2)
        turn = np.stack([turn + 1, turn + 2 ** (height - level - 1)], axis=1).ravel()
    features.setflags(write=False)
    thresholds.setflags(write=False)
    return Trees(n_features, n_trees, height, features, thresholds)


def _cuts(low: F64, high: F64, drawn: F64) -> tuple[I64, F64]:
    """Feature and threshold of each node, given its box and two random numbers; operations in river's order."""
    ends = np.cumsum(high - low, axis=2)
    pick = (ends[..., :-1] <= drawn[..., :1] * ends[..., -1:]).sum(axis=2)
    a, b = (np.take_along_axis(side, pick[..., None], axis=2)[..., 0] for side in (low, high))
    first, last = a + PADDING * (b - a), b - PADDING * (b - a)
    return pick, first + (last - first) * drawn[..., 1]


def leaves(trees: Trees, rows: F64) -> I64:
    """Find the leaf of each row in each tree.

    Parameters
    ----------
    trees
        Of :func:`grow`.
    rows
        Finite values, shape (n, n_features). Values outside [0, 1] are allowed: outer half spaces are open.

    Returns
    -------
    Leaf numbers ``tree * 2**height + leaf``, shape (n, n_trees); it is the transpose of a contiguous array.

    Examples
    --------
    The only threshold is .743.

    >>> leaves(grow(1, n_trees=1, height=1), np.array([[0.7], [0.8]])).tolist()
    [[0], [1]]
    """
    found = np.empty((trees.n_trees, len(rows)), np.int64)
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        found[:, block] = _descend(trees, rows[block])
    return found.T


def _descend(trees: Trees, rows: F64) -> I64:
    """Leaves of one block of rows, shape (n_trees, n)."""
    n = len(rows)
    columns = np.ascontiguousarray(rows.T)
    roots = slice(trees.n_trees, 2 * trees.n_trees)
    node = np.arange(roots.start, roots.stop).repeat(n).reshape(-1, n)
    node += node
    node += columns[trees.features[roots]] >= trees.thresholds[roots, None]  # all rows compare alike: no look-up
    values, column_starts, row = columns.ravel(), trees.features * n, np.arange(n)
    at = np.empty(node.shape, np.int64)
    value, threshold = np.empty(node.shape), np.empty(node.shape)
    for _ in range(trees.height - 1):
        # No index is out of range; mode="clip" spares numpy the check and the copy that would undo a failed one.
        column_starts.take(node, out=at, mode="clip")
        at += row
        values.take(at, out=value, mode="clip")
        trees.thresholds.take(node, out=threshold, mode="clip")
        node += node
        node += value >= threshold
    node -= trees.n_trees << trees.height
    return node


@dataclass(frozen=True, eq=False)
class Masses:
    """How many rows fell into each leaf: all that half-space trees learn. A value; steps return a new one.

    Integers are as short as the window allows, one byte for up to 255 rows: with many models, reading the masses from
    memory is most of the work, and they are most of what a model costs.

    Parameters
    ----------
    reference
        Of the last full window, shape (n_trees, 2**height); None before the first is full, when all scores are 0.
    latest
        Of the window that is filling, same shape.
    counter
        Rows in the window that is filling, less than ``window_size``.
    window_size
        Rows after which the latest masses become the reference, at most 32 767.
    """

    reference: Ints | None
    latest: Ints
    counter: int
    window_size: int = 250

    @classmethod
    def empty(cls, n_trees: int = 25, height: int = 8, window_size: int = 250) -> "Masses":
        """Masses before the first row."""
        return cls(None, np.zeros((n_trees, 2**height), _mass_type(window_size)), 0, window_size)

    @classmethod
    def restored(cls, reference: Ints | None, latest: Ints, counter: int, window_size: int = 250) -> "Masses":
        """Masses out of a snapshot: every tree must have seen each row of its window once, else DamagedState."""
        if reference is not None and reference.shape != latest.shape:
            raise DamagedState(f"half-space trees: masses of shapes {reference.shape} and {latest.shape}")
        if not 0 <= counter < window_size <= np.iinfo(np.int16).max:
            raise DamagedState(f"half-space trees: counter {counter} of a window of {window_size}")
        for counts, n in ((latest, counter), (reference, window_size)):
            if counts is not None and ((counts < 0).any() or (counts.sum(axis=1) != n).any()):
                raise DamagedState(f"half-space trees: leaf masses don't add up to {n} rows in every tree")
        kind = _mass_type(window_size)
        return cls(None if reference is None else reference.astype(kind), latest.astype(kind), counter, window_size)

    @functools.cached_property
    def path_scores(self) -> Ints:
        """What a row gets from each leaf that it falls into, shape (n_trees, 2**height); never stored.

        Without the root's, which is the same for all, and halved, for the rest is even: that fits into 16 bits.
        """
        if self.reference is None:
            highest = self.window_size * (self.latest.shape[1] - 1)  # all of a window's rows in each node of a path
            return np.full(self.latest.shape, highest, _path_type(highest))
        return _path_scores(self.reference, self.window_size)


def _mass_type(window_size: int) -> type[np.integer[Any]]:
    return np.uint8 if window_size <= np.iinfo(np.uint8).max else np.int16


def _path_type(highest: int) -> type[np.integer[Any]]:
    return np.uint16 if highest <= np.iinfo(np.uint16).max else np.int32


def _path_scores(masses: Ints, window_size: int) -> Ints:
    """Sum of mass times 2**(depth - 1) from the root's child to each leaf or, before it, to the first sparse node.

    ``masses`` are leaf masses, shape (..., 2**height).
    """
    n_leaves = masses.shape[-1]
    kind = _path_type(window_size * (n_leaves - 1))
    levels: list[Ints] = [masses.ravel().astype(kind)]
    for _ in range(n_leaves.bit_length() - 1):
        levels.append(levels[-1][0::2] + levels[-1][1::2])
    mass = levels.pop()
    path = np.zeros_like(mass)
    for depth in range(len(levels)):
        weight = (mass >= SPARSE_SHARE * window_size) * kind(1 << depth)
        mass = levels.pop()
        longer = np.empty_like(mass)
        for side in (0, 1):
            longer[side::2] = mass[side::2] * weight
            longer[side::2] += path
        path = longer
    return path.reshape(masses.shape)


def score_and_learn(masses: Masses, found: I64) -> tuple[F64, Masses]:
    """Score each row against the reference masses, then learn it, in order.

    ``1 - s / (n_trees * window_size * (2**(height + 1) - 1))``, where s sums over trees the path's masses times
    2**depth. A row that completes a window makes that window the reference of the rows after it.

    Parameters
    ----------
    masses
        State before the first row; it stays as it is.
    found
        Of :func:`leaves`, shape (n, n_trees).

    Returns
    -------
    Scores in [0, 1], shape (n,), high for outliers, and the state after the last row.

    Examples
    --------
    A window of two rows, both in leaf 0. Then s of leaf 0 is 2 + 2 * 2 of at most 2 * 3, that of leaf 1 is 2 + 0.

    >>> scores, masses = score_and_learn(Masses.empty(1, 1, window_size=2), np.array([[0], [0], [0], [1]]))
    >>> scores.tolist()
    [0.0, 0.0, 0.0, 0.667]
    >>> masses.reference.tolist(), masses.counter
    ([[1, 1]], 0)
    """
    scores = np.empty(len(found))
    rows_at_once = WINDOWS_AT_ONCE * masses.window_size
    for start in range(0, len(found), rows_at_once):
        block = slice(start, start + rows_at_once)
        scores[block], masses = _step(masses, found[block].T)
    return scores, masses


def _step(masses: Masses, found: I64) -> tuple[F64, Masses]:
    """Take all rows of some windows at once: each window's rows are counted and scored in a plane of their own."""
    size = masses.latest.size
    n_closed, counter = divmod(masses.counter + found.shape[1], masses.window_size)
    plane = np.arange(masses.counter, masses.counter + found.shape[1]) // masses.window_size
    place = found + plane * size
    counts = np.bincount(place.ravel(), minlength=(n_closed + 1) * size).reshape(-1, *masses.latest.shape)
    counts[0] += masses.latest
    paths = masses.path_scores[None]
    if n_closed:
        paths = np.concatenate([paths, _path_scores(counts[:-1], masses.window_size)])
    n_trees, n_leaves = masses.latest.shape
    roots, kind = n_trees * masses.window_size, masses.latest.dtype
    below = paths.ravel().take(place, mode="clip").sum(axis=0, dtype=np.int32)
    scores = 1 - (roots + 2 * below) / (roots * (2 * n_leaves - 1))
    # Copies, so that a state doesn't keep the other windows' planes alive.
    reference = counts[-2].astype(kind) if n_closed else masses.reference
    after = Masses(reference, counts[-1].astype(kind), counter, masses.window_size)
    vars(after)["path_scores"] = paths[-1].copy() if n_closed else masses.path_scores  # else worked out once more
    return scores, after
