"""Stage 2's state as bytes and back."""

from collections.abc import Iterator, Mapping

import msgspec

from driftline.detectors.alerts import Alert
from driftline.detectors.errors import DamagedState
from driftline.detectors.partials import Mark, Partial
from driftline.detectors.policy import Standing
from driftline.detectors.snapshot import OWN, cell_key, decode, seal, unseal
from driftline.detectors.verdict import FleetState, ModelState
from driftline.detectors.watch import Watch


class _Model(msgspec.Struct, array_like=True, frozen=True):
    model: str
    version: str
    partials: list[Partial]
    standings: list[tuple[str, str, Standing]]
    provisional: list[Alert]


class _Fleet(msgspec.Struct, array_like=True, frozen=True):
    partition: int
    final_ms: int
    marks: list[Mark]


def dump(state: FleetState, watch: Watch) -> Iterator[tuple[bytes, bytes]]:
    """Models that changed since the last dump, then the partition's own cell, in the order in which to write them."""
    for model in state.models.values():
        if model.is_dirty:
            model.is_dirty = False
            content = _Model(
                *model.key,
                [part for _, parts in sorted(model.windows.items()) for _, part in sorted(parts.items())],
                [(*subject, standing) for subject, standing in sorted(model.standings.items())],
                [alert for _, alert in sorted(model.provisional.items())],
            )
            payload = msgspec.msgpack.encode(content)
            yield cell_key(*model.key), seal(payload, plan=watch.plan_hash, baseline="", next_offset=model.next_offset)
    own = _Fleet(state.partition, state.final_ms, [mark for _, mark in sorted(state.marks.items())])
    yield OWN, seal(msgspec.msgpack.encode(own), plan=watch.plan_hash, baseline="", next_offset=state.next_offset)


def load(partition: int, saved: Mapping[bytes, bytes]) -> tuple[FleetState, list[DamagedState]]:
    """State from saved values; what is damaged is left out and told.

    If anything is damaged the partition starts over at offset 0, and sound models skip what they hold.
    """
    state = FleetState(partition)
    damaged: list[DamagedState] = []
    for key, raw in saved.items():
        try:
            if key == OWN:
                envelope = unseal(raw)
                own = decode(envelope.payload, _Fleet)
                state.next_offset, state.final_ms = envelope.next_offset, own.final_ms
                state.marks = {mark.partition: mark for mark in own.marks}
            else:
                model = _model(raw)
                state.models[model.key] = model
        except DamagedState as error:
            damaged.append(error)
    if damaged:
        return FleetState(partition, models=state.models), damaged
    return state, damaged


def _model(raw: bytes) -> ModelState:
    envelope = unseal(raw)
    content = decode(envelope.payload, _Model)
    model = ModelState((content.model, content.version), envelope.next_offset, is_dirty=False)
    for part in content.partials:
        model.windows.setdefault(part.start_ms, {})[part.partition] = part
    model.standings = {(kind, signal): standing for kind, signal, standing in content.standings}
    model.provisional = {alert.id: alert for alert in content.provisional}
    return model
