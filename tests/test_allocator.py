from __future__ import annotations

import ctypes
import json
import subprocess
import sys

import pytest

from driftline.streams.worker.allocator import LARGE_BYTES

MAPPED = """
import ctypes, json, sys
from driftline.streams.worker.allocator import keep_large_buffers_apart

class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd rest1 rest2 rest3 rest4 rest5".split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo2
if sys.argv[1] == "apart":
    keep_large_buffers_apart()
size = int(sys.argv[2])
before = libc.mallinfo2().hblkhd
buffer = bytearray(size)
first = libc.mallinfo2().hblkhd - before
del buffer
buffer = bytearray(size)
print(json.dumps([first >= size, libc.mallinfo2().hblkhd - before >= size]))
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33 or newer tells"
)


def mapped(how: str, size: int) -> list[bool]:
    """Whether a buffer is kept apart, and another of its size after it was freed."""
    command = [sys.executable, "-c", MAPPED, how, str(size)]
    found: list[bool] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def test_large_buffers_are_kept_apart_however_often() -> None:
    assert mapped("apart", 2 * LARGE_BYTES) == [True, True]


def test_arrays_of_a_batch_stay_on_the_heap() -> None:
    assert mapped("apart", LARGE_BYTES // 2) == [False, False]


def test_glibc_by_itself_keeps_only_the_first_apart() -> None:
    assert mapped("as it is", 2 * LARGE_BYTES) == [True, False]
