from __future__ import annotations

import _ctypes

import pytest

from driftline.streams.demo.mock_cluster import MockCluster


def test_a_missing_library_is_an_os_error() -> None:
    with pytest.raises(OSError, match="/nowhere/librdkafka"):
        MockCluster("/nowhere/librdkafka.so", 1)


def test_a_library_without_the_interface_is_named() -> None:
    with pytest.raises(AttributeError, match="rd_kafka"):
        MockCluster(_ctypes.__file__, 1)  # a shared library that is surely there
