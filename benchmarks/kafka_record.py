"""Values as the Kafka records that aiokafka would make of them, for what is measured without a broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.structs import ConsumerRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def records_of(found: Iterable[bytes], appended_ms: int) -> Iterator[ConsumerRecord[None, bytes]]:
    """Yield records of partition 0, offsets from 0."""
    for offset, value in enumerate(found):
        yield ConsumerRecord("predictions", 0, offset, appended_ms + 10**9, 0, None, value, None, -1, len(value), ())
