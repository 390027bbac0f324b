"""Stage 1's state as bytes and back."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from driftline.detectors.arrays import little_endian
from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.documents.duplicates import Duplicates
from driftline.detectors.documents.partials import ChangePoint
from driftline.detectors.errors import START_OVER, DamagedState, OperatorError
from driftline.detectors.layout.vector_layout import LATE, Layout, N
from driftline.detectors.layout.watch import ModelKey, Watch
from driftline.detectors.online import adwin
from driftline.detectors.online.halfspace import Masses
from driftline.detectors.snapshots.envelope import OWN, cell_key, check_home, decode, missing, seal, unseal
from driftline.detectors.tumbling import NO_TIME
from driftline.detectors.windows.model_state import Cell, OpenWindow
from driftline.detectors.windows.online_detectors import Online
from driftline.detectors.windows.profiling import PartitionState
from driftline.detectors.windows.silence import Clock

MASSES = {1: "|u1", 2: "<i2"}
"""Types of half-space masses by their bytes; the first format always had two."""


class _Window(msgspec.Struct, array_like=True, frozen=True):
    start_ms: int
    baseline: str
    itemsize: int
    vector: bytes
    events: dict[str, int]
    changes: list[ChangePoint]
    new_levels: dict[str, dict[str, int]]
    duplicates: bytes


class _Masses(msgspec.Struct, array_like=True, frozen=True):
    counter: int
    window_size: int
    latest: bytes
    reference: bytes | None


class _Online(msgspec.Struct, array_like=True, frozen=True):
    baseline: str
    adwins: list[tuple[str, str, float, bytes]]
    masses: _Masses | None


class _Cell(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    model: str
    version: str
    windows: list[_Window]
    online: _Online | None


class _Partition(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    partitions: int
    window_ms: int
    cells: dict[bytes, int]
    bookmark: Bookmark | None


class _Times(msgspec.Struct, array_like=True, frozen=True):
    highest_ms: int
    closed_ms: int
    recent_ms: tuple[int, ...]
    clock: Clock


class _Position(NamedTuple):
    """How far a partition had come when a value was saved."""

    next_offset: int
    times: _Times


def dump(state: PartitionState, watch: Watch) -> Iterator[tuple[bytes, bytes]]:
    """Cells that changed since the last dump, then the partition's own, in the order in which to write them.

    Behind it comes what is to be removed, as empty values: the partition's own lists it no longer. A cell that is ahead of the partition after a crash has not changed until the partition reaches it.
    """
    times = _Times(state.highest_ms, state.closed_ms, tuple(state.recent_ms.tolist()), state.clock)
    for cell in state.cells.values():
        if cell.is_dirty and cell.next_offset <= state.next_offset:
            cell.is_dirty, cell.next_offset = False, state.next_offset
            yield cell_key(*cell.key), _cell_bytes(cell, times, state.partition, watch.plan_hash)
    listed = {cell_key(*cell.key): cell.next_offset for _, cell in sorted(state.cells.items())}
    own = _Partition(state.partition, state.partitions, watch.plan.window_ms, listed, state.bookmark)
    yield OWN, seal(own, times, plan=watch.plan_hash, baseline="", next_offset=state.next_offset)
    for key in sorted(state.removed - state.cells.keys()):
        yield cell_key(*key), b""
    state.removed.clear()


def load(
    partition: int, partitions: int, saved: Mapping[bytes, bytes], watch: Watch
) -> tuple[PartitionState, dict[bytes, DamagedState]]:
    """State from saved values, and by key what is damaged and was left out.

    If anything is damaged the partition starts over at offset 0, and sound cells skip what they hold. A part of a cell
    whose baseline is gone is no damage: it is left out alone, and the state says so.

    Raises
    ------
    OperatorError
        Where the state belongs to another number of partitions or another window length.
    UnknownFormat
        Where another version of driftline or river saved it.
    """
    cells: dict[bytes, tuple[Cell, _Position]] = {}
    damaged: dict[bytes, DamagedState] = {}
    position, own = _Position(0, _Times(NO_TIME, 0, (), Clock())), None
    left_out: dict[str, int] = {}
    for key, raw in saved.items():
        try:
            if key == OWN:
                position, own = _partition(raw, partition, partitions, watch)
            else:
                cells[key] = _cell(raw, partition, key, watch, left_out)
        except DamagedState as error:
            damaged[key] = error
    listed = own.cells if own else {}
    damaged |= missing(listed, saved.keys())
    state = PartitionState(partition, partitions, bookmark=own.bookmark if own else None, left_out=left_out)
    for cell, _ in cells.values():
        if cell.key in watch.layouts:
            state.cells[cell.key] = cell
        else:
            state.removed.add(cell.key)
    if not damaged:
        older = [at for key, (_, at) in cells.items() if at.next_offset < listed.get(key, 0)]
        first = min([position, *older], key=attrgetter("next_offset"))
        state.next_offset, times = first.next_offset, first.times
        state.highest_ms, state.closed_ms, state.clock = times.highest_ms, times.closed_ms, times.clock
        state.recent_ms = np.array(times.recent_ms, np.int64)
    return state, damaged


def _partition(raw: bytes, partition: int, partitions: int, watch: Watch) -> tuple[_Position, _Partition]:
    envelope = unseal(raw)
    own, times = decode(envelope.payload, _Partition), decode(envelope.context, _Times)
    if own.partition != partition:
        raise DamagedState(f"state of partition {own.partition} under partition {partition}")
    for key, was, now in (
        ("partitions of the predictions topic", own.partitions, partitions),
        ("plan.window_ms", own.window_ms, watch.plan.window_ms),
    ):
        if was != now:
            raise OperatorError(f"{key} = {now}, but the saved state has {was}: {START_OVER}")
    return _Position(envelope.next_offset, times), own


def _cell_bytes(cell: Cell, times: _Times, partition: int, plan_hash: str) -> bytes:
    online = cell.online
    content = _Cell(
        partition,
        *cell.key,
        [_window(start_ms, window) for start_ms, window in sorted(cell.windows.items())],
        _online(online) if online else None,
    )
    baseline = online.layout.baseline.hash if online else ""
    return seal(content, times, plan=plan_hash, baseline=baseline, next_offset=cell.next_offset)


def _window(start_ms: int, window: OpenWindow) -> _Window:
    events = dict(sorted(window.events.items()))  # equal states give equal bytes, however they came about
    vector = window.vector.itemsize, little_endian(window.vector)
    sampled = window.new_levels, window.duplicates.dump()
    return _Window(start_ms, window.layout.baseline.hash, *vector, events, window.changes, *sampled)


def _online(online: Online) -> _Online:
    adwins = sorted(
        (of.detector, of.signal, of.delta, adwin.dump(window, of.delta))
        for of, window in zip(online.layout.adwins, online.windows, strict=True)
    )
    masses = online.masses
    if masses is None:
        return _Online(online.layout.baseline.hash, adwins, None)
    kind = MASSES[masses.latest.itemsize]
    reference = None if masses.reference is None else _bytes(masses.reference, kind)
    saved = _Masses(masses.counter, masses.window_size, _bytes(masses.latest, kind), reference)
    return _Online(online.layout.baseline.hash, adwins, saved)


def _cell(raw: bytes, partition: int, key: bytes, watch: Watch, left_out: dict[str, int]) -> tuple[Cell, _Position]:
    envelope = unseal(raw)
    content, times = decode(envelope.payload, _Cell), decode(envelope.context, _Times)
    check_home((content.partition, content.model, content.version), partition, key)
    model = (content.model, content.version)
    cell = Cell(model, envelope.next_offset, is_dirty=False)
    for each in content.windows:
        layout = _layout(model, each.baseline, f"window at {each.start_ms} ms", watch, left_out)
        if layout is not None:
            cell.windows[each.start_ms] = _open_window(each, model, layout, watch)
    if content.online is not None:
        layout = _layout(model, content.online.baseline, "detectors", watch, left_out, windows=0)
        cell.online = None if layout is None else _restored(content.online, layout)
    return cell, _Position(envelope.next_offset, times)


def _layout(
    model: ModelKey, baseline: str, what: str, watch: Watch, left_out: dict[str, int], *, windows: int = 1
) -> Layout | None:
    """The layout of a part of a cell; None where its baseline was retired or replaced: then that part is left out."""
    layout = watch.by_hash(model, baseline)
    if layout is None:
        left_out[f"{model}: the {what} of baseline {baseline}, which is not on the baselines topic any more"] = windows
    return layout


def _open_window(saved: _Window, model: ModelKey, layout: Layout, watch: Watch) -> OpenWindow:
    if saved.itemsize not in (1, 2, 4, 8):
        raise DamagedState(f"{model}: counts of {saved.itemsize} bytes each")
    vector = _array(saved.vector, f"<u{saved.itemsize}", (layout.size,))
    highest = max(vector[N], vector[LATE])
    if (vector > highest).any() or saved.start_ms % watch.plan.window_ms:
        raise DamagedState(f"{model}: counts of no records, or a window that starts at {saved.start_ms} ms")
    short = vector.astype(np.min_scalar_type(highest))
    duplicates = Duplicates.load(saved.duplicates)
    return OpenWindow(layout, short, saved.events, saved.changes, saved.new_levels, duplicates)


def _restored(saved: _Online, layout: Layout) -> Online:
    """Detectors as they were, for those that the plan still has on with the same threshold; others start fresh."""
    online = Online.fresh(layout)
    places = {(of.detector, of.signal, of.delta): place for place, of in enumerate(layout.adwins)}
    for detector, signal, delta, raw in saved.adwins:
        place = places.get((detector, signal, delta))
        if place is not None:
            online.windows[place] = adwin.load(raw, delta)
    if saved.masses is not None and online.masses is not None:
        online.masses = _masses(saved.masses, online.masses)
    return online


def _masses(saved: _Masses, fresh: Masses) -> Masses:
    shape = fresh.latest.shape
    kind = MASSES.get(len(saved.latest) // fresh.latest.size, "<i2")
    latest = _array(saved.latest, kind, shape)
    reference = None if saved.reference is None else _array(saved.reference, kind, shape)
    if saved.window_size != fresh.window_size:
        raise DamagedState(f"half-space trees: window of {saved.window_size}, the baseline's is {fresh.window_size}")
    return Masses.restored(reference, latest, saved.counter, saved.window_size)


def _bytes(array: npt.NDArray[Any], kind: str) -> bytes:
    return array.astype(kind).tobytes()


def _array(raw: bytes, kind: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    try:
        return np.frombuffer(raw, kind).astype(kind[1:]).reshape(shape)  # a copy, in this machine's byte order
    except ValueError as error:
        raise DamagedState(f"snapshot array: {error}") from error
