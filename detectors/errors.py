"""Errors that say whose fault it is.

::

    DriftlineError
    ├── RecordError       the record's: it becomes a dead letter, is counted, and the stream goes on
    ├── OperatorError     the operator's: refuse to start, naming the key, the value and the remedy
    │   └── UnknownFormat a document of a format that this version does not know
    └── DamagedState      a snapshot that is foreign, truncated or flipped: the cell is rebuilt

Whatever is ours is an ordinary exception and crashes loudly.
"""


class DriftlineError(Exception):
    """Root of every error that driftline raises on purpose."""


class RecordError(DriftlineError):
    """One record can't be used.

    Parameters
    ----------
    reason
        Short snake-case name from a closed set; it becomes a metric label and a header.
    detail
        What was seen, without the payload.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class OperatorError(DriftlineError):
    """The configuration or the surroundings are wrong; the message names the remedy."""


class UnknownFormat(OperatorError):  # noqa: N818 - named for what was met, as in the tree above
    """A document or a state of a format that this version does not know."""


class DamagedState(DriftlineError):  # noqa: N818 - likewise
    """Bytes of a snapshot that can't be trusted."""
