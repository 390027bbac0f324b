"""What stage 2 remembers, and what a step of it says."""

import sys
from dataclasses import dataclass, field

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.layout.watch import ModelKey
from driftline.detectors.verdicts.alert_builder import Subject
from driftline.detectors.verdicts.decide import Verdict
from driftline.detectors.verdicts.earlier import Earlier
from driftline.detectors.verdicts.policy import Standing
from driftline.detectors.verdicts.transitions import LastWindow


@dataclass(slots=True)
class ModelState:
    """One model version in stage 2.

    Parameters
    ----------
    key
        Model and version.
    next_offset
        Partials below it are in this state already.
    windows
        Per window start and input partition, of windows that have no final verdict: the newest partial, or the one that
        counts where the window is final and waits for its turn or its baseline.
    earlier
        Partials before the newest, and what came too late.
    last
        The last window that has a final verdict.
    standings
        Per (kind, signal), where its alert stands after the last final window.
    provisional
        Alerts that fired provisionally and are not final yet, by id.
    drafts
        Provisional verdicts by window, with the partials that they were made of; never saved.
    is_dirty
        Whether it differs from its last snapshot.
    """

    key: ModelKey
    next_offset: int = 0
    windows: dict[int, dict[int, Partial]] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=Earlier)
    last: LastWindow | None = None
    standings: dict[Subject, Standing] = field(default_factory=dict)
    provisional: dict[str, Alert] = field(default_factory=dict)
    drafts: dict[int, tuple[dict[int, Partial], Verdict, Layout]] = field(default_factory=dict)
    is_dirty: bool = True

    def keep(self, partial: Partial) -> None:
        """Take in a partial of a window that is not final."""
        parts = self.windows.setdefault(partial.start_ms, {})
        parts[partial.partition] = self.earlier.newest(parts.get(partial.partition), partial)

    def settle(self, start_ms: int, appended_ms: int) -> int:
        """Of a window that is final keep what was appended up to a moment; return how many records came after it."""
        n_missed = 0
        parts = self.windows[start_ms]
        for partition, newest in list(parts.items()):
            counted, missed = self.earlier.settle(newest, appended_ms)
            n_missed += missed
            if counted is None:
                del parts[partition]
            else:
                parts[partition] = counted
        self.is_dirty = True
        if not parts:
            self.forget(start_ms)
        return n_missed

    def forget(self, start_ms: int) -> None:
        """Drop a window that is judged."""
        del self.windows[start_ms]
        self.drafts.pop(start_ms, None)
        self.is_dirty = True


@dataclass(slots=True)
class FleetState:
    """All that stage 2 remembers of one partition of ``partials``.

    Parameters
    ----------
    partition
        Which partition of ``partials``.
    next_offset
        The first offset that is not in this state.
    marks
        Newest mark per input partition, with all facts that windows which are not final may need.
    final_ms
        Every window that ends at or before this is final.
    models
        State per model version.
    partitions
        Of how many partitions: the number is part of the state's identity.
    bookmark
        The last record that was read; None before the first.
    removed
        Model versions whose saved values are to be removed with the next snapshot; never saved.
    """

    partition: int
    next_offset: int = 0
    marks: dict[int, Mark] = field(default_factory=dict)
    final_ms: int = 0
    models: dict[ModelKey, ModelState] = field(default_factory=dict)
    partitions: int = 1
    bookmark: Bookmark | None = None
    removed: set[ModelKey] = field(default_factory=set)


@dataclass(slots=True)
class Judged:
    """Outputs of one step.

    Parameters
    ----------
    verdicts, alerts
        In order.
    stale
        Partials that came for windows that are final already.
    missed
        Records that these windows' verdicts lack: their partition had been idle.
    unmatched
        Partials that are in no verdict: their baseline is unknown, or their window is judged by another one.
    room
        How many more final windows this step may judge.
    retired
        Model versions that were dropped, because their baseline was.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    stale: int = 0
    missed: int = 0
    unmatched: int = 0
    room: int = sys.maxsize
    retired: list[ModelKey] = field(default_factory=list)
