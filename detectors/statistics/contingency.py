"""Two samples over the same cells as a contingency table: pooling, chi-square and its orthogonal parts, their p-values.

All work on many tables of one shape at once, a row each; a row's result depends on that row only.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc, ndtri

from driftline.detectors.arrays import F64, I64

SMALLEST_EXPECTED_COUNT = 5
"""Cells are pooled until the smaller sample expects this many records in each."""


class Tables(NamedTuple):
    """The pooled 2 by k tables of baseline and window, of r signals that pooling left with k cells each."""

    rows: I64  # which of the signals they are, shape (r,)
    counts_0: I64  # shape (r, k), as the next three
    counts: I64
    shares: F64  # pi_b of both samples together
    gaps: F64  # O_b / n - R_b / m
    m: I64  # shape (r,), as the next two
    n: I64
    s: F64  # 1 / n + 1 / m


def pooled(counts_0: I64, counts: I64) -> Iterator[Tables]:
    """Pool runs of neighbouring cells until the smaller sample, not empty, expects enough records in each."""
    m, n = counts_0.sum(axis=1), counts.sum(axis=1)
    needed = SMALLEST_EXPECTED_COUNT * (n + m) / np.minimum(n, m)
    runs = list(map(_runs, (counts_0 + counts).tolist(), needed.tolist()))
    cells, sizes = counts.shape[1], np.array(list(map(len, runs)), np.int64)
    starts = [row * cells + start for row, each in enumerate(runs) for start in each]
    sums_0, sums = (np.add.reduceat(each.ravel(), starts) for each in (counts_0, counts))
    for size in sorted(set(sizes.tolist())):
        rows = (sizes == size).nonzero()[0]
        own = (sizes.cumsum() - sizes)[rows, None] + np.arange(size)
        yield _tables(rows, sums_0[own], sums[own], m[rows], n[rows])


def _runs(counts: list[int], needed: float) -> list[int]:
    """First cells of the runs of one signal."""
    starts, held = [0], 0
    for cell, count in enumerate(counts, start=1):
        held += count
        if held >= needed:
            starts.append(cell)
            held = 0
    # Behind the last start are too few records, or none: they join the run before.
    return starts[:-1] or [0]


def _tables(rows: I64, counts_0: I64, counts: I64, m: I64, n: I64) -> Tables:
    shares = (counts_0 + counts) / (n + m)[:, None]
    return Tables(rows, counts_0, counts, shares, counts / n[:, None] - counts_0 / m[:, None], m, n, 1 / n + 1 / m)


def chi_square(table: Tables) -> F64:
    """Chi-square statistics, shape (r,)."""
    found: F64 = (table.gaps**2 / table.shares).sum(axis=1) / table.s
    return found


def orthonormal(shares: F64) -> F64:
    """Constant, location and scale scores of k >= 3 cells, shape (r, 3, k), orthonormal under the shares."""
    location = ndtri(shares.cumsum(axis=1) - shares / 2)
    location -= np.vecdot(shares, location)[:, None]
    location /= np.sqrt(np.vecdot(shares, location**2))[:, None]
    scale = location**2 - 1
    scale -= np.vecdot(shares, scale * location)[:, None] * location
    scale /= np.sqrt(np.vecdot(shares, scale**2))[:, None]
    return np.stack((np.ones_like(shares), location, scale), axis=1)


class Moments(NamedTuple):
    """How one row of each table projects: what the cumulants of a quadratic statistic need to order 1 / n."""

    df: int  # mean of its squared length
    fourth: F64  # mean of its squared length squared, shape (r,)
    third: F64  # 4 |T|^2 + 6 |tr T|^2 of its third-moment tensor T, shape (r,)


def of_score(shares: F64, score: F64) -> Moments:
    """Of one normalised score, shape (r, k)."""
    return Moments(1, np.vecdot(shares, score**4), 10 * np.float_power(np.vecdot(shares, score**3), 2))


def of_rest(shares: F64, removed: F64) -> Moments:
    """Of all contrasts between k cells except the (r, q, k) orthonormal ones, the constant among them, removed."""
    taken = (removed**2).sum(axis=1)
    left = 1 / shares - taken
    triples = np.einsum("rk,rak,rbk,rck->rabc", shares, removed, removed, removed).reshape(len(shares), -1)
    tensor = (1 / shares - 3 * taken + 3 * shares * taken**2).sum(axis=1) - (triples**2).sum(axis=1)
    traces = (removed @ (shares * left)[:, :, None])[:, :, 0]
    trace = (shares * left**2).sum(axis=1) - (traces**2).sum(axis=1)
    return Moments(shares.shape[1] - removed.shape[1], np.vecdot(shares, left**2), 4 * tensor + 6 * trace)


def upper_tails(statistic: F64, moments: Moments, table: Tables) -> list[float]:
    """Upper tails of quadratic statistics: a shifted gamma with the permutation mean, variance and skewness of each.

    Chi-square alone is too small by a factor of 5 at p = 1e-4 when few cells are rare. To order 1 / n, with
    v = n m / (n + m)^2, Haldane (Biometrika 29 (1937) 133) for the multinomial:
    k2 = 2 df + e, k3 = 8 df + 12 e + s (1 - 4 v) third, e = s ((1 - 6 v) fourth - (1 - 4 v) df (df + 2)).
    """
    df, fourth, third = moments
    v = 1 / ((table.n + table.m) * table.s)
    excess = table.s * ((1 - 6 * v) * fourth - (1 - 4 * v) * df * (df + 2))
    k2 = 2 * df + excess
    k3 = 8 * df + 12 * excess + table.s * (1 - 4 * v) * third
    scale = k3 / (4 * k2)
    gamma_df = k2 / (2 * np.float_power(scale, 2))
    shift = df - gamma_df * scale
    p_values: list[float] = chdtrc(gamma_df, np.maximum(statistic - shift, 0.0) / scale).tolist()
    return p_values
