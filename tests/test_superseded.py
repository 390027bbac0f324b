"""Memory of baselines that others have taken the place of comes back."""

from __future__ import annotations

import gc
import weakref

from driftline.detectors.plan import Plan
from driftline.detectors.windows.profiling import PartitionState
from driftline.streams.engine.shared import Shared
from driftline.streams.engine.superseded import EVERY_S, MARGIN_WINDOWS, Superseded
from driftline.streams.observability.metrics import Metrics
from tests.logs import MINUTE_MS, START_MS, Profile, batch_of, plain, sample, watching
from tests.test_verdict import Fleet, partial

PATIENCE_S = 2 * (60 + 10)


class Worker:
    """A worker's watch, its states, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.shared = Shared(watching(Plan(), plain()), 2, 2, 2**20, Metrics("test"))
        self.now_s = 0.0
        self.profile, self.fleet = Profile(PartitionState(0, 2)), Fleet(self.shared.watch)
        self.superseded = Superseded(self.shared, lambda: self.now_s)

    def later(self, seconds: float) -> int:
        """Baselines that are known after so many seconds."""
        for _ in range(int(seconds // EVERY_S) + 1):
            self.superseded.release([self.profile.state, self.fleet.state])
            self.now_s += EVERY_S
        known = (self.shared.watch.layouts, self.shared.watch.replaced)
        return sum(len(each) for of in known for each in of.values())


def test_a_corrected_baseline_is_released_when_nothing_counts_by_it_any_more() -> None:
    worker = Worker()
    worker.profile.step(batch_of(sample(5, 1), START_MS), worker.shared.watch)
    worker.fleet.take(partial(0, 0))
    old = weakref.ref(worker.shared.watch.layouts["m", "1"][0])
    worker.shared.watch = worker.shared.watch.with_baseline(plain(1))
    assert worker.later(2 * PATIENCE_S) == 2  # an open window, detectors and a pending partial
    worker.fleet.state.models.clear()
    worker.profile.state.cells["m", "1"].windows.clear()
    assert worker.later(2 * PATIENCE_S) == 2  # detectors
    worker.profile.step(batch_of(sample(5, 1), START_MS, 5), worker.shared.watch)
    assert worker.later(PATIENCE_S / 2) == 2
    assert worker.later(PATIENCE_S) == 1
    worker.fleet.watch = worker.shared.watch
    gc.collect()
    assert old() is None


def test_a_baseline_with_a_successor_is_released_when_its_last_window_is_closed_for_long() -> None:
    worker = Worker()
    worker.shared.watch = worker.shared.watch.with_baseline(plain(1, START_MS)).with_baseline(plain(2, 10 * START_MS))
    assert worker.later(2 * PATIENCE_S) == 3
    end_ms = START_MS + MARGIN_WINDOWS * MINUTE_MS
    worker.profile.state.closed_ms = worker.fleet.state.final_ms = end_ms - 1
    assert worker.later(2 * PATIENCE_S) == 3
    worker.profile.state.closed_ms = end_ms
    assert worker.later(2 * PATIENCE_S) == 3  # the fleet is not as far
    worker.fleet.state.final_ms = end_ms
    assert worker.later(EVERY_S) == 2


def test_any_number_of_corrections_takes_no_more_memory_than_one() -> None:
    worker = Worker()
    for seed in range(30):
        worker.shared.watch = worker.shared.watch.with_baseline(plain(1 + seed % 2))
        worker.later(PATIENCE_S)
    assert worker.later(PATIENCE_S) == 1
