"""Stage 2's state as bytes and back."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from driftline.detectors.documents.alerts import Alert
from driftline.detectors.documents.bookmark import Bookmark
from driftline.detectors.documents.partials import Mark, Partial
from driftline.detectors.errors import START_OVER, DamagedState, OperatorError
from driftline.detectors.layout.watch import Watch
from driftline.detectors.snapshots.envelope import OWN, cell_key, check_home, decode, missing, seal, unseal
from driftline.detectors.verdicts.fleet import FleetState, ModelState
from driftline.detectors.verdicts.policy import Standing
from driftline.detectors.verdicts.transitions import LastWindow


class _Model(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    model: str
    version: str
    partials: list[Partial]
    last: LastWindow | None
    standings: list[tuple[str, str, Standing]]
    provisional: list[Alert]
    counted: list[tuple[int, int, int]]


class _Fleet(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    partitions: int
    models: dict[bytes, int]
    bookmark: Bookmark | None


class _Marks(msgspec.Struct, array_like=True, frozen=True):
    final_ms: int
    marks: list[Mark]


class _Position(NamedTuple):
    """How far a partition had come when a value was saved."""

    next_offset: int
    marks: _Marks


def dump(state: FleetState, watch: Watch) -> Iterator[tuple[bytes, bytes]]:
    """Models that changed since the last dump, then the partition's own cell, in the order in which to write them.

    Behind it comes what is to be removed, as empty values: the partition's own lists it no longer. A model that is ahead of the partition after a crash waits until the partition has reached it.
    """
    marks = _Marks(state.final_ms, [mark for _, mark in sorted(state.marks.items())])
    for model in state.models.values():
        if model.is_dirty and model.next_offset <= state.next_offset:
            model.is_dirty, model.next_offset = False, state.next_offset
            yield cell_key(*model.key), _model_bytes(model, marks, state.partition, watch.plan_hash)
    listed = {cell_key(*model.key): model.next_offset for _, model in sorted(state.models.items())}
    own = _Fleet(state.partition, state.partitions, listed, state.bookmark)
    yield OWN, seal(own, marks, plan=watch.plan_hash, baseline="", next_offset=state.next_offset)
    for key in sorted(state.removed - state.models.keys()):
        yield cell_key(*key), b""
    state.removed.clear()


def _model_bytes(model: ModelState, marks: _Marks, partition: int, plan_hash: str) -> bytes:
    content = _Model(
        partition,
        *model.key,
        [
            part
            for _, parts in sorted(model.windows.items())
            for _, newest in sorted(parts.items())
            for part in model.earlier.all(newest)
        ],
        model.last,
        [(*subject, standing) for subject, standing in sorted(model.standings.items())],
        [alert for _, alert in sorted(model.provisional.items())],
        [(*place, n) for place, n in sorted(model.earlier.counted.items())],
    )
    return seal(content, marks, plan=plan_hash, baseline="", next_offset=model.next_offset)


def load(
    partition: int, saved: Mapping[bytes, bytes], partitions: int = 1
) -> tuple[FleetState, dict[bytes, DamagedState]]:
    """State from saved values, and by key what is damaged and was left out.

    If anything is damaged the partition starts over at offset 0, and sound models skip what they hold.

    Raises
    ------
    OperatorError
        Where the state belongs to another number of partitions.
    UnknownFormat
        Where another version of driftline or river saved it.
    """
    models: dict[bytes, tuple[ModelState, _Position]] = {}
    damaged: dict[bytes, DamagedState] = {}
    position, own = _Position(0, _Marks(0, [])), None
    for key, raw in saved.items():
        try:
            if key == OWN:
                position, own = _fleet(raw, partition, partitions)
            else:
                models[key] = _model(raw, partition, key)
        except DamagedState as error:
            damaged[key] = error
    listed = own.models if own else {}
    damaged |= missing(listed, saved.keys())
    state = FleetState(partition, models={model.key: model for model, _ in models.values()}, partitions=partitions)
    state.bookmark = own.bookmark if own else None
    if not damaged:
        older = [at for key, (_, at) in models.items() if at.next_offset < listed.get(key, 0)]
        state.next_offset, marks = min([position, *older], key=lambda at: at.next_offset)
        state.final_ms, state.marks = marks.final_ms, {mark.partition: mark for mark in marks.marks}
    return state, damaged


def _fleet(raw: bytes, partition: int, partitions: int) -> tuple[_Position, _Fleet]:
    envelope = unseal(raw)
    own, marks = decode(envelope.payload, _Fleet), decode(envelope.context, _Marks)
    if own.partition != partition:
        raise DamagedState(f"state of partition {own.partition} under partition {partition}")
    if own.partitions != partitions:
        raise OperatorError(
            f"partitions of the partials topic = {partitions}, but the saved state has {own.partitions}: {START_OVER}"
        )
    return _Position(envelope.next_offset, marks), own


def _model(raw: bytes, partition: int, key: bytes) -> tuple[ModelState, _Position]:
    envelope = unseal(raw)
    content, marks = decode(envelope.payload, _Model), decode(envelope.context, _Marks)
    check_home((content.partition, content.model, content.version), partition, key)
    model = ModelState((content.model, content.version), envelope.next_offset, is_dirty=False)
    for part in content.partials:
        model.keep(part)
    model.last = content.last
    model.standings = {(kind, signal): standing for kind, signal, standing in content.standings}
    model.earlier.counted = {(start_ms, partition): n for start_ms, partition, n in content.counted}
    model.provisional = {alert.id: alert for alert in content.provisional}
    return model, _Position(envelope.next_offset, marks)
