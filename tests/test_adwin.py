"""ADWIN by column: river's own detections, whatever the cut, from a state that can't hurt."""

import math
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from river.drift import ADWIN

from driftline.detectors.arrays import F64
from driftline.detectors.errors import DamagedState
from driftline.detectors.online import adwin as module
from driftline.detectors.online.adwin import Change
from tests.adwins import Adwin


def by_river(values: F64, delta: float) -> list[Change]:
    """Feed row by row, and work out what was dropped from the values themselves."""
    adwin, since, changes = ADWIN(delta=delta), 0, []
    for row, value in enumerate(values.tolist()):
        adwin.update(value)
        if adwin.drift_detected:
            n_dropped = row + 1 - since - int(adwin.width)
            dropped = math.fsum(values[since : since + n_dropped]) / n_dropped
            changes.append(Change(row, dropped, adwin.estimation, int(adwin.width)))
            since = row + 1
    return changes


def shifting(seed: int, n: int = 3000) -> F64:
    """Noise whose level changes at random places."""
    rng = np.random.default_rng(seed)
    levels = np.repeat(rng.normal(0, 1.5, n // 100), 100)
    return levels[:n] + rng.standard_t(3, levels.size)[:n]


def fed_by_pieces(adwin: Adwin, values: F64, places: list[int]) -> tuple[list[Change], Adwin]:
    """Feed in pieces, through a snapshot after each; rows are counted from the start."""
    changes: list[Change] = []
    for start, stop in zip([0, *places], [*places, len(values)], strict=True):
        changes += [change._replace(row=change.row + start) for change in adwin.feed(values[start:stop])]
        adwin = Adwin.load(adwin.dump(), adwin.delta)
    return changes, adwin


@pytest.mark.parametrize("delta", [2e-4, 0.002, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_detections_are_rivers(seed: int, delta: float) -> None:
    values = shifting(seed)
    expected = by_river(values, delta)
    found = Adwin(delta).feed(values)

    assert len(expected) > 3
    assert [(change.row, change.width) for change in found] == [(change.row, change.width) for change in expected]
    assert [change.after for change in found] == [change.after for change in expected]
    assert [change.before for change in found] == pytest.approx([change.before for change in expected], rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), places=st.lists(st.integers(0, 900), max_size=8).map(sorted))
def test_it_does_not_matter_how_the_stream_was_cut(seed: int, places: list[int]) -> None:
    values = shifting(seed, 900)
    whole = Adwin(0.05)
    changes = whole.feed(values)
    found, pieces = fed_by_pieces(Adwin(0.05), values, places)

    assert found == changes  # bit for bit, means included
    assert pieces.dump() == whole.dump()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e100, 1e100), max_size=80), st.integers(1, 40))
@example([1e100, -1e100] * 20, 20)
@example([1e15] * 30 + [1e15 + 0.125], 1)
@example([5e-324, -0.0, 0.0], 3)
def test_every_state_that_a_stream_leads_to_can_be_restored(few: list[float], times: int) -> None:
    adwin = Adwin(2e-4)
    adwin.feed(np.array(few * times))
    restored = Adwin.load(adwin.dump(), 2e-4)

    assert restored.dump() == adwin.dump()
    assert restored.window.__getstate__() == adwin.window.__getstate__()


@pytest.mark.parametrize("n", [0, 1, 5, 6, 7, 12, 13, 1000, 65537, 300_000])
def test_a_restored_window_goes_on_bit_for_bit(n: int) -> None:
    """All that river keeps and we don't follows from the width."""
    rng = np.random.default_rng(n)
    adwin = Adwin(1e-9)
    assert adwin.feed(rng.normal(size=n)) == []
    restored = Adwin.load(adwin.dump(), 1e-9)
    assert restored.window.__getstate__() == adwin.window.__getstate__()

    more = np.concatenate([rng.normal(size=500), rng.normal(3, 1, 500)])
    assert restored.feed(more) == adwin.feed(more) != []
    assert restored.dump() == adwin.dump()


def test_a_window_wider_than_rivers_counters_goes_on() -> None:
    """River counts in 32 bits and wraps; 3e9 equal values are a window of 33 levels."""
    width = 3 * 10**9 + 7
    sizes = module._level_sizes(width)
    totals = 2.0 ** np.arange(len(sizes)).repeat(sizes)
    sums = module._OWN.pack(1, 2e-4, width, float(width), 0.0)
    adwin = Adwin.load(sums + totals.tobytes() + bytes(8 * sum(sizes[1:])))
    assert totals.sum() == width

    assert adwin.feed(np.ones(1000)) == []
    assert adwin.window.get_width() == adwin.window.get_total() == width + 1000
    assert len(adwin.feed(np.full(1000, 50.0))) > 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.1e100, -1e300])
def test_values_that_would_blind_it_are_refused_before_any_is_fed(value: float) -> None:
    adwin = Adwin()
    adwin.feed(np.arange(10.0))
    before = adwin.dump()
    with pytest.raises(ValueError, match="finite"):
        adwin.feed(np.array([1.0, value]))
    assert adwin.dump() == before


@pytest.mark.parametrize("blinding", [math.nan, 1e300])
def test_one_such_value_hides_every_later_change_from_river(blinding: float) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=1000), [blinding], rng.normal(5, 1, 1000)])
    masked = np.where(np.abs(values) <= 1e100, values, 0.0)

    assert by_river(values, 2e-4) == []
    assert 1000 < Adwin(2e-4).feed(masked)[0].row < 1064


@pytest.mark.parametrize("delta", [2e-5, 2e-4, 0.05, 0.3])
@pytest.mark.parametrize("rows", [1, 2, 50, 999, 10**6])
def test_a_seeded_window_holds_the_baselines_moments_and_no_change(rows: int, delta: float) -> None:
    window, n = module.seeded(delta, 0.25, 2.0, rows), min(rows, module.MOST_SEEDS)
    assert window.get_width() == n
    assert window.get_total() / n == pytest.approx(0.25, abs=1e-9)
    assert window.get_variance() / n == pytest.approx(4.0 if n > 1 else 0.0, rel=0.01)  # river holds the sum
    assert module.dump(module.load(module.dump(window, delta), delta), delta) == module.dump(window, delta)


@pytest.mark.parametrize("shift", [0.3, 0.5, 1.0])
def test_a_shift_from_the_first_record_on_is_a_change(shift: float) -> None:
    """The control is an empty window, which takes the shifted values for what they always were."""
    for seed in range(10):
        values = np.random.default_rng(seed).normal(shift, 1.0, 2_000)
        [found] = module.feed_all([module.seeded(2e-5, 0.0, 1.0, 10_000)], [2e-5], values[None])
        [unseeded] = module.feed_all([module.fresh(2e-5)], [2e-5], values[None])
        assert found
        assert found[0].row < 150 / shift**2
        assert unseeded == []


def test_without_drift_changes_are_below_one_in_a_million() -> None:
    """Four million values after baselines of 300 rows, whose own mean is off by a twentieth."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(40):
        mean = rng.normal(0.0, 300**-0.5)
        [changes] = module.feed_all([module.seeded(2e-5, mean, 1.0, 300)], [2e-5], rng.normal(size=(1, 100_000)))
        found += bool(changes)
    assert found <= 2


def mutated(dumped: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, lengthen, or replace altogether."""
    damaged = bytearray(dumped)
    place = int(rng.integers(len(damaged)))
    kind = rng.integers(6)
    if kind <= 1:
        for at in rng.integers(len(damaged), size=rng.integers(1, 4)):
            damaged[at] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        damaged[place : place + 8] = rng.bytes(8)
    elif kind == 3:
        del damaged[place:]
    elif kind == 4:
        damaged[place:place] = rng.bytes(int(rng.integers(1, 20)))
    else:
        damaged[0 if rng.integers(2) else 1 :] = rng.bytes(place)
    return bytes(damaged)


def test_no_mutation_of_a_state_does_worse_than_being_refused() -> None:
    rng = np.random.default_rng(0)
    later = np.concatenate([rng.normal(size=400), rng.normal(1e6, 1, 400), np.full(100, 1e100)])
    refused = 0
    for n in (0, 3, 40, 1000):
        adwin = Adwin()
        adwin.feed(rng.normal(size=n))
        for _ in range(500):
            try:
                restored = Adwin.load(mutated(adwin.dump(), rng))
            except DamagedState:
                refused += 1
            else:  # a believable state, such as a flip in a bucket's low bits: it works on
                assert all(math.isfinite(each.before + each.after) for each in restored.feed(later))
                assert len(restored.dump()) >= 33
    assert 1500 < refused < 2000


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (0, "<B", 2),
        (1, "<d", 0.002),
        (1, "<d", math.nan),
        (9, "<Q", 101),
        (9, "<Q", 2**64 - 1),
        (17, "<d", 1e6),
        (17, "<d", math.nan),
        (25, "<d", -1.0),
        (25, "<d", math.inf),
        (33, "<d", 1e6),
    ],
)
def test_a_contradiction_is_refused(offset: int, form: str, value: float) -> None:
    adwin = Adwin()
    adwin.feed(np.arange(100.0) % 7)
    dumped = bytearray(adwin.dump())
    struct.pack_into(form, dumped, offset, value)
    with pytest.raises(DamagedState, match="ADWIN"):
        Adwin.load(bytes(dumped))


def test_rivers_panic_on_foreign_bytes_is_a_damaged_state(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DamagedState, match="refuses"):
        module._restore(Adwin().window, b"\xff" * 248)
    assert "panicked" in capfd.readouterr().err  # without the guard it would pass every `except Exception`


def test_bytes_that_river_reads_differently_are_a_damaged_state() -> None:
    with pytest.raises(DamagedState, match="differently"):
        module._restore(Adwin().window, Adwin().window.__getstate__() + b"trailing")


def test_importing_it_does_not_import_all_of_river() -> None:
    program = "import sys, driftline.detectors.online.adwin; print([m for m in sys.modules if m.startswith('river.')])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "river.drift" not in loaded
    assert "_river_rust" in loaded
