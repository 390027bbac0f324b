"""Whatever is pending, everything that is written stays far below what Kafka takes."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.detectors.arrays import little_endian
from driftline.detectors.baselines.fit import fit
from driftline.detectors.documents.alerts import Window
from driftline.detectors.documents.duplicates import SAMPLE, Duplicates
from driftline.detectors.documents.new_levels import LONGEST, MOST_NAMES, MOST_OF_WINDOW, NewLevels, told
from driftline.detectors.documents.partials import MAX_CHANGES, ChangePoint, Mark, Partial, bounded
from driftline.detectors.layout.sizes import MAX_RECORD_BYTES, largest_alert, largest_partial, largest_verdict
from driftline.detectors.layout.vector_layout import Layout, N
from driftline.detectors.layout.watch import Watch
from driftline.detectors.plan import Plan
from driftline.detectors.snapshots import verdict_snapshot
from driftline.detectors.verdicts.alert_builder import Finding, bin_shifts, transition_alert
from driftline.detectors.verdicts.decide import judge_windows
from driftline.detectors.verdicts.evaluate import Evidence
from driftline.detectors.verdicts.fleet import FleetState, ModelState
from driftline.detectors.verdicts.policy import Standing
from driftline.detectors.verdicts.transitions import LastWindow
from driftline.streams.engine.chunks import CHUNK_BYTES, Chunks
from driftline.streams.formats import wire
from tests.logs import MINUTE_MS, START_MS, churn

WATCH = Watch(Plan())
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


def partial_of(layout: Layout, seed: int, start_ms: int = START_MS, partition: int = 0, n_changes: int = 0) -> Partial:
    """Counts as large as they come, in as many bytes as the seed says."""
    rng = np.random.default_rng(seed)
    itemsize = 1 << seed % 3
    vector = rng.integers(0, 2 ** (8 * itemsize), layout.size).astype(f"u{itemsize}")
    changes = bounded(
        ChangePoint(layout.numeric[place % len(layout.numeric)], "adwin_scale", 2**31, 2**53, 2**45, -1.234567890123456e-300, 1 / 3)
        for place in range(n_changes)
    )  # fmt: skip
    return Partial(
        model="churn", version="1", start_ms=start_ms, partition=partition, baseline=layout.baseline.hash, upto=2**53,
        vector=little_endian(vector), itemsize=vector.itemsize, changes=changes,
        new_levels=new_levels(layout, "\x01"), duplicates=Duplicates(2**53, np.arange(2**64 - 1 - SAMPLE, 2**64 - 1, dtype=np.uint64), np.full(SAMPLE, 2**32 - 1)).dump(),
        appended_ms=2**45 + seed,
    )  # fmt: skip


def new_levels(layout: Layout, character: str) -> NewLevels:
    """As many names as a window keeps, of the signals with the longest names."""
    signals = sorted(layout.signals, key=len)[-MOST_OF_WINDOW:]
    found: NewLevels = {}
    for n in range(MOST_OF_WINDOW):
        names = found.setdefault(signals[n % len(signals)], {})
        if len(names) < MOST_NAMES:
            names[f"{n}".ljust(LONGEST, character)] = 2**40
    return found


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 3000),
    st.integers(1, 3),
    st.integers(0, 400),
    st.dictionaries(NAMES, st.sampled_from(["", "warning", "critical"]), max_size=50),
    st.integers(0, 2**32),
)
def test_every_saved_value_is_bounded_and_the_state_comes_back_whatever_is_pending(
    n_windows: int, partitions: int, n_changes: int, standings: dict[str, str], seed: int
) -> None:
    layout = Layout.of(churn(), Plan())
    model = ModelState(("churn", "1"), 5, last=LastWindow(START_MS, "h"))
    for minute in range(n_windows):
        start_ms = START_MS + minute * MINUTE_MS
        model.windows[start_ms] = {
            place: partial_of(layout, seed + minute + place, start_ms, place, n_changes if minute == 0 else 0)
            for place in range(partitions)
        }
        model.earlier.counted[start_ms, 0] = seed
    for start_ms, parts in list(model.windows.items())[:20]:
        before = [msgspec.structs.replace(parts[0], appended_ms=n, upto=n, vector=bytes(n)) for n in range(8)]
        model.earlier.partials[start_ms, 0] = before
    model.standings = {("drift", name): Standing((True,), each) for name, each in standings.items()}  # type: ignore[arg-type]
    times = [START_MS + each * MINUTE_MS for each in range(n_windows)]
    facts = tuple((each, each, each) for each in times), tuple((each, each) for each in times)
    state = FleetState(0, 5, {0: Mark(0, 1, START_MS, False, 0, *facts)}, START_MS, {model.key: model})  # noqa: FBT003
    values = dict(verdict_snapshot.dump(state, WATCH))
    stored = dict(Chunks().cut(values.items()))
    assert max(map(len, stored.values())) <= CHUNK_BYTES
    joined = Chunks.joined(stored)[1]
    assert joined == values
    found, damaged = verdict_snapshot.load(0, joined)
    assert damaged == {}
    found.models[model.key].is_dirty = True
    assert found.models[model.key].windows == model.windows
    assert found.models[model.key].earlier == model.earlier
    assert found.marks == state.marks
    assert dict(verdict_snapshot.dump(found, WATCH)) == values


def layout_of(n: int, width: int, levels: int, character: str) -> Layout:
    rng = np.random.default_rng(n)
    columns: dict[str, list[float] | list[str]] = {
        f"{place}{character * width}": rng.normal(size=2 * levels).tolist() for place in range(n)
    }
    columns["shop" + character * width] = [f"{place % levels}{character * width}" for place in range(2 * levels)]
    return Layout.of(fit("m" * 100, "1", columns), Plan())


@pytest.mark.parametrize(
    "layout",
    [layout_of(*each) for each in ((1, 1, 2, "a"), (60, 20, 90, "\x01"), (200, 8, 5, '"'), (3, 2000, 40, "é"))],
    ids=["small", "control", "many", "long"],
)
def test_no_record_is_larger_than_the_bound_says(layout: Layout) -> None:
    changes = bounded(
        ChangePoint(name, "adwin_scale", 2**31, 2**53, 2**45, -1.234567890123456e-300, 1.234567890123456e-300)
        for name in layout.numeric
        for _ in range(2 * MAX_CHANGES)
    )
    assert {each.signal for each in changes} == set(layout.numeric)
    partial = msgspec.structs.replace(
        partial_of(layout, 0),
        new_levels=new_levels(layout, "😀"),
        vector=bytes(8 * layout.size),
        itemsize=8,
        changes=changes,
        model=layout.baseline.model,
    )
    assert len(wire.partial_record(partial).value) <= largest_partial(layout)
    counts = np.full(layout.size, 10**11)
    counts[N] = 10**11
    window = Window(START_MS, START_MS + MINUTE_MS)
    levels = new_levels(layout, "\x01")
    [verdict] = judge_windows([Evidence(layout, window, counts, list(changes), levels)], final=True)
    assert len(wire.verdict_record(verdict).value) <= largest_verdict(layout)
    for name, signal in verdict.signals.items():
        shifts = bin_shifts(layout, name, signal)
        phrase = (
            name
            + "; ".join(f"{each.bin}: {each.baseline_share:.1%} -> {each.window_share:.1%}" for each in shifts)
            + told(signal.new_levels, 2**50)
        )
        finding = Finding("marginal", 1 / 3, 1 / 3, 1 / 3, phrase, shifts)
        alert = transition_alert(layout, verdict, ("data_quality", name), finding, "escalates", "critical")
        assert len(wire.alert_record(alert).value) <= largest_alert(layout)


def test_the_bound_is_far_below_what_kafka_takes() -> None:
    assert MAX_RECORD_BYTES <= 2**20 // 2
