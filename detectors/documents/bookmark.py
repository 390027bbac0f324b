"""The bookmark by which a state knows its log again."""

import msgspec


class Bookmark(msgspec.Struct, array_like=True, frozen=True):
    """The last record that a state was read from: its offset, Kafka's timestamp, and the CRC-32 of its value."""

    offset: int
    appended_ms: int
    checksum: int
