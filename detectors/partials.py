"""What stage 1 tells stage 2: one partition's part of a window, and how far that partition has come."""

import msgspec
import numpy as np

from driftline.detectors.arrays import I64


class ChangePoint(msgspec.Struct, frozen=True):
    """A change that an online detector declared at one record.

    Parameters
    ----------
    signal, detector
        Where and by what.
    partition, offset, event_ms
        At which record.
    before, after
        Mean normal score (for the scale detector: mean square) that the detector held before and kept after.
    """

    signal: str
    detector: str
    partition: int
    offset: int
    event_ms: int
    before: float
    after: float


class Partial(msgspec.Struct, frozen=True, kw_only=True, tag="partial"):
    """Counts of one window of one model version in one partition: cumulative, so the newest replaces the others.

    Parameters
    ----------
    model, version, start_ms, partition
        Which part of which window.
    baseline
        Hash of the baseline whose bins were counted.
    upto
        Offset after the record that closed the window; for an open window, of the state it was taken from.
    vector
        The layout's flat vector as little-endian int64 bytes.
    changes
        Change points in this window, in log order.
    new_levels
        Per signal, how often each of the first levels came that the baseline never had.
    duplicates
        Sample of the window's records, as :class:`~driftline.detectors.duplicates.Duplicates` writes it.
    """

    model: str
    version: str
    start_ms: int
    partition: int
    baseline: str
    upto: int
    vector: bytes
    changes: tuple[ChangePoint, ...] = ()
    new_levels: dict[str, dict[str, int]] = {}
    duplicates: bytes = b""

    def counts(self) -> I64:
        """The flat vector."""
        return np.frombuffer(self.vector, "<i8")


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """How far an input partition has come; written to every partition of topic ``partials``.

    Parameters
    ----------
    partition, partitions
        Which input partition, of how many.
    closed_ms
        Every window that ends at or before this is closed in that partition.
    idle
        Whether the partition has been silent for a while: it holds back no provisional verdict. This alone stems from
        the wall clock; it never reaches a final verdict.
    """

    partition: int
    partitions: int
    closed_ms: int
    idle: bool = False
