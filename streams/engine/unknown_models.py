"""Records of models that no baseline has: said by name, for a counter alone sends nobody to the right service."""

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from driftline.streams.formats.letters import UNTOLD, Counts, sender
from driftline.streams.formats.wire import Raw

log = logging.getLogger(__name__)

EVERY_S = 60.0
MOST_NAMES = 10
"""Model versions that one message names."""
MOST_READ = 100
"""Records of a batch whose names are read: beside a flood of them the rest is counted without."""


class Strangers:
    """Counts records of unknown model versions, and says once a minute which.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Examples
    --------
    >>> now = 0.0
    >>> strangers = Strangers(lambda: now)
    >>> strangers.sentence() is None
    True
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._said_at = clock, -EVERY_S
        self._counts = Counts(most=1_000)

    def note(self, records: Sequence[Raw], rejected: Sequence[tuple[int, str]]) -> None:
        """Count those of a batch's rejected records, given with their reasons, that are of unknown models."""
        offsets = [offset for offset, reason in rejected if reason == "unknown_model"]
        if not offsets:
            return
        read = set(offsets[:MOST_READ])
        for record in records:
            if record.offset in read:
                self._counts.add(sender(record.value or b""))
        if len(offsets) > MOST_READ:
            self._counts.add((UNTOLD, UNTOLD), len(offsets) - MOST_READ)

    def sentence(self) -> str | None:
        """Return what to say now; None where there is nothing, or a minute has not passed."""
        if not self._counts or self._clock() - self._said_at < EVERY_S:
            return None
        ranked = self._counts.ranked()
        named = [f"model {name[0]!r} version {name[1]!r} ({n} records)" for name, n in ranked[:MOST_NAMES]]
        if len(ranked) > MOST_NAMES:
            named.append(f"{len(ranked) - MOST_NAMES} more ({sum(n for _, n in ranked[MOST_NAMES:])} records)")
        self._counts.clear()
        self._said_at = self._clock()
        return f"no baseline for {', '.join(named)}: publish one with `driftline baseline publish FILE`"

    def say(self) -> None:
        """Log what there is to say."""
        if (sentence := self.sentence()) is not None:
            log.warning("%s", sentence)
