"""Stage 1's state as bytes and back."""

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from driftline.detectors.adwin import Adwin
from driftline.detectors.arrays import I64
from driftline.detectors.cell import Cell, OpenWindow
from driftline.detectors.errors import DamagedState, OperatorError
from driftline.detectors.halfspace import Masses
from driftline.detectors.layout import Layout
from driftline.detectors.online import Online
from driftline.detectors.partials import ChangePoint
from driftline.detectors.profiling import PartitionState
from driftline.detectors.snapshot import OWN, cell_key, decode, seal, unseal
from driftline.detectors.watch import ModelKey, Watch


class _Window(msgspec.Struct, array_like=True, frozen=True):
    start_ms: int
    baseline: str
    vector: bytes
    events: dict[str, int]
    changes: list[ChangePoint]


class _Masses(msgspec.Struct, array_like=True, frozen=True):
    counter: int
    window_size: int
    latest: bytes
    reference: bytes | None
    n_trees: int


class _Online(msgspec.Struct, array_like=True, frozen=True):
    baseline: str
    adwins: list[tuple[str, str, bytes]]
    masses: _Masses | None


class _Cell(msgspec.Struct, array_like=True, frozen=True):
    model: str
    version: str
    windows: list[_Window]
    online: _Online | None


class _Partition(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    partitions: int
    window_ms: int
    highest_ms: int
    closed_ms: int


def dump(state: PartitionState, watch: Watch) -> Iterator[tuple[bytes, bytes]]:
    """Cells that changed since the last dump, then the partition's own, in the order in which to write them."""
    for cell in state.cells.values():
        if cell.is_dirty:
            cell.is_dirty = False
            yield cell_key(*cell.key), _cell_bytes(cell, watch.plan_hash)
    own = _Partition(state.partition, state.partitions, watch.plan.window_ms, state.highest_ms, state.closed_ms)
    yield OWN, seal(msgspec.msgpack.encode(own), plan=watch.plan_hash, baseline="", next_offset=state.next_offset)


def load(
    partition: int, partitions: int, saved: Mapping[bytes, bytes], watch: Watch
) -> tuple[PartitionState, list[DamagedState]]:
    """State from saved values; what is damaged is left out and told.

    If anything is damaged the partition starts over at offset 0, and sound cells skip what they hold.

    Raises
    ------
    OperatorError
        Where the state belongs to another number of partitions or another window length.
    """
    state = PartitionState(partition, partitions)
    damaged: list[DamagedState] = []
    if OWN in saved:
        try:
            state = _partition(saved[OWN], partition, partitions, watch)
        except DamagedState as error:
            damaged.append(error)
    for key, raw in saved.items():
        if key != OWN:
            try:
                cell = _cell(raw, watch)
            except DamagedState as error:
                damaged.append(error)
            else:
                state.cells[cell.key] = cell
    if damaged:
        return PartitionState(partition, partitions, cells=state.cells), damaged
    return state, damaged


def _partition(raw: bytes, partition: int, partitions: int, watch: Watch) -> PartitionState:
    envelope = unseal(raw)
    own = decode(envelope.payload, _Partition)
    if own.partition != partition:
        raise DamagedState(f"state of partition {own.partition} under partition {partition}")
    for key, was, now in (
        ("partitions of the predictions topic", own.partitions, partitions),
        ("plan.window_ms", own.window_ms, watch.plan.window_ms),
    ):
        if was != now:
            raise OperatorError(f"{key} = {now}, but the saved state has {was}: start under a new --app-id")
    return PartitionState(partition, partitions, envelope.next_offset, own.highest_ms, own.closed_ms)


def _cell_bytes(cell: Cell, plan_hash: str) -> bytes:
    online = cell.online
    content = _Cell(
        *cell.key,
        [
            _Window(start_ms, window.layout.baseline.hash, _bytes(window.vector, "<i8"), window.events, window.changes)
            for start_ms, window in sorted(cell.windows.items())
        ],
        _online(online) if online else None,
    )
    baseline = online.layout.baseline.hash if online else ""
    payload = msgspec.msgpack.encode(content)
    return seal(payload, plan=plan_hash, baseline=baseline, next_offset=cell.next_offset)


def _online(online: Online) -> _Online:
    adwins = [(*place, adwin.dump()) for place, adwin in sorted(online.adwins.items())]
    masses = online.masses
    if masses is None:
        return _Online(online.layout.baseline.hash, adwins, None)
    reference = None if masses.reference is None else _bytes(masses.reference, "<i2")
    saved = _Masses(masses.counter, masses.window_size, _bytes(masses.latest, "<i2"), reference, masses.latest.shape[0])
    return _Online(online.layout.baseline.hash, adwins, saved)


def _cell(raw: bytes, watch: Watch) -> Cell:
    envelope = unseal(raw)
    content = decode(envelope.payload, _Cell)
    key = (content.model, content.version)
    windows = {each.start_ms: _open_window(each, key, watch) for each in content.windows}
    online = _restored(content.online, key, watch) if content.online else None
    return Cell(key, envelope.next_offset, windows, online, is_dirty=False)


def _open_window(saved: _Window, key: ModelKey, watch: Watch) -> OpenWindow:
    layout = _layout(key, saved.baseline, watch)
    vector = _array(saved.vector, "<i8")
    if vector.size != layout.size or (vector < 0).any():
        raise DamagedState(f"{key}: a window of {vector.size} cells, its baseline makes {layout.size}")
    return OpenWindow(layout, vector, dict(saved.events), list(saved.changes))


def _restored(saved: _Online, key: ModelKey, watch: Watch) -> Online:
    """Detectors as they were, for those that the plan still has on with the same threshold; others start fresh."""
    layout = _layout(key, saved.baseline, watch)
    online = Online.fresh(layout)
    for detector, signal, raw in saved.adwins:
        fresh = online.adwins.get((detector, signal))
        if fresh is not None:
            online.adwins[detector, signal] = Adwin.load(raw, fresh.delta)
    if saved.masses is not None and online.masses is not None:
        online.masses = _masses(saved.masses)
    return online


def _masses(saved: _Masses) -> Masses:
    shape = (saved.n_trees, -1)
    try:
        latest = _array(saved.latest, "<i2").reshape(shape)
        reference = None if saved.reference is None else _array(saved.reference, "<i2").reshape(shape)
    except ValueError as error:
        raise DamagedState(f"half-space trees: {error}") from error
    return Masses.restored(reference, latest, saved.counter, saved.window_size)


def _layout(key: ModelKey, baseline_hash: str, watch: Watch) -> Layout:
    layout = watch.by_hash(key, baseline_hash)
    if layout is None:
        raise DamagedState(f"{key}: the state's baseline {baseline_hash} is not on the baselines topic any more")
    return layout


def _bytes(array: I64, kind: str) -> bytes:
    return array.astype(kind).tobytes()


def _array(raw: bytes, kind: str) -> I64:
    try:
        return np.frombuffer(raw, kind).astype(np.int64)
    except ValueError as error:
        raise DamagedState(f"snapshot array: {error}") from error
