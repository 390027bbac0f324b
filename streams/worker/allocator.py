"""Where a worker's memory comes from: glibc is told to keep the large buffers of fetches apart from all that stays."""

import ctypes
import sys

LARGE_BYTES = 3 * 2**20
"""Larger buffers are mapped, and unmapped when they are freed. Those of fetches are, arrays of a batch are not."""
SPARE_BYTES = 16 * 2**20
"""What the heap may keep at its end, so that it need not grow again for each batch."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_large_buffers_apart() -> None:
    """Set glibc's thresholds; elsewhere there is nothing to set.

    Left to itself, glibc takes the first large buffer that is freed for a sign that more will come and gives them room
    between all the others from then on. States that outlive a fetch come to lie in that room, the next fetch finds no
    hole of its size, and the heap grows for hours.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:  # musl has none
            mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
            mallopt(_M_TRIM_THRESHOLD, SPARE_BYTES)
