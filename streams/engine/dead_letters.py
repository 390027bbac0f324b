"""Records that could not be used, written to a topic of their own, though not without bound."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from time import monotonic

from driftline.detectors.documents.predictions import Batch
from driftline.detectors.errors import RecordError
from driftline.detectors.layout.watch import Watch
from driftline.streams.formats.letters import REDACTED, UNTOLD, sender
from driftline.streams.formats.rejections import Rejection
from driftline.streams.formats.tolerant import bad_name
from driftline.streams.formats.wire import MAX_DEAD_LETTER, Outgoing, Raw, Remains


class Allowance:
    """So much per minute, refilled evenly; a minute's worth may be taken at once.

    Parameters
    ----------
    per_minute
        How much.
    clock
        Monotonic seconds.

    Examples
    --------
    Of 60 a minute, 60 may go at once, and one more each second.

    >>> now = 0.0
    >>> allowance = Allowance(60, lambda: now)
    >>> allowance.take(100)
    60
    >>> now = 2.5
    >>> allowance.take(100), allowance.take(100)
    (2, 0)
    """

    def __init__(self, per_minute: float = inf, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._left, self._at_s = per_minute, clock()

    def take(self, n: int) -> int:
        """How many of n are allowed now."""
        now_s = self._clock()
        self._left = min(self._per_minute, self._left + (now_s - self._at_s) * self._per_minute / 60)
        self._at_s = now_s
        taken = int(min(n, self._left))
        self._left -= taken
        return taken


def explained(
    rejected: Sequence[tuple[int, str]], unreadable: Sequence[Rejection], batch: Batch, watch: Watch
) -> Iterator[Rejection]:
    """Say of rejected records, (offset, reason), which field is at fault, what it holds, and what is wanted.

    Parameters
    ----------
    rejected
        All of them, or the first.
    unreadable
        Those that could not be decoded.
    batch, watch
        What stage 1 was given, by which it rejected the others.
    """
    known = {each.offset: each for each in unreadable}
    for offset, reason in rejected:
        if offset in known:
            yield known[offset]
        else:
            row = int(batch.offsets.searchsorted(offset))
            yield Rejection.of(offset, _explained(reason, batch, row, watch))


def _explained(reason: str, batch: Batch, row: int, watch: Watch) -> RecordError:
    record, plan = batch.predictions[row], watch.plan
    if reason == "bad_name":
        return bad_name(record.model, record.version) or RecordError(reason)
    if reason == "unknown_model":
        is_version = record.model in watch.models
        field, name = ("version", record.version) if is_version else ("model", record.model)
        return RecordError(
            reason, field=field, found=name, wanted="one that has a baseline (driftline baseline publish)"
        )
    wanted = f"at most {plan.max_ahead_ms} ms (plan.max_ahead_ms) after the Kafka timestamp, {batch.appended_ms[row]}"
    if reason == "no_baseline_yet":
        first = watch.layouts[record.model, record.version][0].baseline
        wanted = f"a window from {first.effective_from_ms} on, when the first baseline is effective"
    found = int(batch.event_ms[row]) if record.timestamp is None else record.timestamp
    return RecordError(reason, field="timestamp", found=found, wanted=wanted)


def dead_letters(records: Sequence[Raw], rejected: Sequence[Rejection], watch: Watch) -> Iterator[Outgoing]:
    """Dead letters of the records that were rejected, redacted where they may hold a sensitive value.

    Where any signal is sensitive that is every record but those that name a model that has a baseline and no such signal:
    of a record that can't be read, or names an unknown model, nobody knows whose values it holds.
    """
    if rejected:
        by_offset = {record.offset: record for record in records}
        for each in rejected:
            record = by_offset[each.offset]
            is_open = not watch.sensitive_models or _model(record.value) in watch.open_models
            yield (dead_letter if is_open else redacted_letter)(record, each)


def _model(value: bytes | None) -> str | None:
    """The model that a record names, as far as it can be read."""
    model, _ = sender(value or b"")
    return None if model == UNTOLD else model


def dead_letter(record: Raw, rejection: Rejection) -> Outgoing:
    """A record that could not be used, as it was, with what was wrong and where it lay.

    One that Kafka would refuse in one piece is cut off; a header then says how long it was.
    """
    first, n_bytes = _content(record)
    size = {"size": n_bytes} if n_bytes > MAX_DEAD_LETTER else {}
    return _letter(record, rejection.details, size, first[:MAX_DEAD_LETTER])


def redacted_letter(record: Raw, rejection: Rejection) -> Outgoing:
    """What was wrong with a record that could not be used and where it lies, without anything that it holds.

    Its size and Kafka timestamp tell whoever looks it up whether it is still the same one.
    """
    details = {name: text for name, text in rejection.details.items() if name != "found"}
    known = {REDACTED: "true", "size": _content(record)[1], "timestamp": record.timestamp}
    return _letter(record, details, known, b"")


def _content(record: Raw) -> tuple[bytes, int]:
    """What there is of a record's value, and how long it was."""
    value = b"" if record.value is None else record.value
    return (value.first, value.n_bytes) if isinstance(value, Remains) else (value, len(value))


def _letter(record: Raw, details: Mapping[str, str], more: Mapping[str, object], value: bytes) -> Outgoing:
    origin = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    encoded = tuple((name, str(text).encode()) for name, text in {**details, **origin, **more}.items())
    return Outgoing("dead_letters", None, value, encoded)
