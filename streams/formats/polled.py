"""What one poll of a partition brought."""

from collections.abc import Iterable, Sequence

from driftline.streams.formats.wire import Raw


class Polled(list[Raw]):
    """Records of one partition that one poll brought, and the offsets that it passed over.

    A log has no record where a transaction ends or compaction took one. A poll that only passes such a place is empty,
    but true: it moves on whoever reads.

    Parameters
    ----------
    records
        In log order, maybe none.
    span
        Offsets from where the poll began to where the next one will.

    Examples
    --------
    >>> bool(Polled([], range(5, 6))), bool(Polled([], range(5, 5)))
    (True, False)
    """

    def __init__(self, records: Iterable[Raw], span: range) -> None:
        super().__init__(records)
        self.span = span

    def __bool__(self) -> bool:
        return bool(self.span)

    @classmethod
    def of(cls, records: Sequence[Raw]) -> "Polled":
        """Records that one poll brought, at least one where it is not told what it passed over."""
        return records if isinstance(records, cls) else cls(records, range(records[0].offset, records[-1].offset + 1))
