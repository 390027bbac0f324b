"""States as bytes: what is written comes back, and nothing else does.

``python -m tests.test_snapshot`` writes the golden files of the current format.
"""

from __future__ import annotations

import asyncio
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pytest

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import DamagedState, OperatorError, UnknownFormat
from driftline.detectors.online import adwin
from driftline.detectors.plan import Rule
from driftline.detectors.snapshots import envelope, profile_snapshot, verdict_snapshot
from driftline.detectors.snapshots.envelope import FORMAT, OWN, cell_key, unseal
from driftline.detectors.windows import profiling
from driftline.streams.formats import wire
from tests.logs import MAX_BYTES, SENSITIVE, Shape, baselines, churn, prediction_log, spread, watching
from tests.simulator import STAGES, Rehearsal, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from driftline.detectors.layout.watch import Watch

GOLDEN = Path(__file__).parent / "golden"
N_MUTANTS = 10_000
CHURN = cell_key("churn", "1")


@cache
def watch() -> Watch:
    return watching(SENSITIVE, *baselines())


class Saved(NamedTuple):
    """What one partition of a stage keeps, and how it is read."""

    values: dict[bytes, bytes]
    load: Callable[[Mapping[bytes, bytes]], tuple[Any, dict[bytes, DamagedState]]]
    dump: Callable[[Any], Iterator[tuple[bytes, bytes]]]


def stage_one(values: dict[bytes, bytes], known: Watch, partition: int = 0) -> Saved:
    return Saved(
        values,
        lambda found: profile_snapshot.load(partition, 2, found, known),
        lambda state: profile_snapshot.dump(state, known),
    )


def stage_two(values: dict[bytes, bytes], known: Watch, partition: int = 0) -> Saved:
    return Saved(
        values,
        lambda found: verdict_snapshot.load(partition, found, 2),
        lambda state: verdict_snapshot.dump(state, known),
    )


@cache
def saved() -> dict[str, Saved]:
    """Both stages in the middle of a log: open windows, alerts pending and provisional ones, trees half full."""
    found = Rehearsal(watch(), dict.fromkeys(STAGES, 2))
    for partition, records in enumerate(spread(prediction_log(2, Shape(n=500, step_ms=900)), 2)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
    places = found.places

    async def play() -> None:
        for turn in [Turn("poll", places[0], 198), Turn("poll", places[1], 150), Turn("idle", places[0])]:
            await found.turn(turn)
        for name in ("poll", "save"):
            for place in places:
                await found.turn(Turn(name, place, 200 if place[0] == "partials" else 10))

    asyncio.run(play())
    return {
        "predictions": stage_one(found.broker.saved["predictions", 0], watch()),
        "partials": max(
            (stage_two(found.broker.saved["partials", place], watch(), place) for place in range(2)),
            key=lambda each: len(each.values),
        ),
    }


def dumped(of: Saved, state: Any) -> dict[bytes, bytes]:
    for cell in (state.cells if hasattr(state, "cells") else state.models).values():
        cell.is_dirty = True
    return dict(of.dump(state))


# Round trips.


@pytest.mark.parametrize("topic", STAGES)
def test_a_state_comes_back_as_it_was_saved(topic: str) -> None:
    of = saved()[topic]
    state, damaged = of.load(of.values)
    assert damaged == {}
    assert dumped(of, state) == of.values
    assert list(of.dump(state)) == [(OWN, of.values[OWN])]  # nothing has changed since


def test_the_states_of_these_tests_have_everything_in_them() -> None:
    profiles, _ = saved()["predictions"].load(saved()["predictions"].values)
    cell = profiles.cells["churn", "1"]
    assert cell.online.masses.counter > 0
    assert cell.online.masses.reference is not None
    assert len(cell.windows) > 1
    assert any(window.events for window in cell.windows.values())
    assert any(window.changes for window in cell.windows.values())
    fleet, _ = saved()["partials"].load(saved()["partials"].values)
    models = fleet.models.values()
    assert len(models) > 1
    assert any(model.windows for model in models)
    assert any(model.standings for model in models)
    assert any(model.provisional for model in models)


def test_a_state_without_saved_values_is_new() -> None:
    for of in saved().values():
        state, damaged = of.load({})
        assert (state.next_offset, damaged) == (0, {})


def test_cells_without_the_partitions_own_are_ahead_of_it() -> None:
    of = saved()["predictions"]
    state, damaged = of.load({key: value for key, value in of.values.items() if key != OWN})
    assert (state.next_offset, damaged) == (0, {})
    assert {cell.next_offset for cell in state.cells.values()} == {unseal(of.values[OWN]).next_offset}


def test_a_snapshot_is_small() -> None:
    """A value must stay below Kafka's 1 MB by far: 25 trees of 256 leaves, twice, are 13 KB."""
    assert max(map(len, saved()["predictions"].values.values())) < 27_000


def test_a_threshold_that_was_changed_starts_its_detector_afresh_and_leaves_the_others() -> None:
    of = saved()["predictions"]
    rules = {**SENSITIVE.detectors, "adwin": Rule(threshold=0.5)}
    other = watching(msgspec.structs.replace(SENSITIVE, detectors=rules), *baselines())
    state, damaged = profile_snapshot.load(0, 2, of.values, other)
    kept, _ = of.load(of.values)
    assert damaged == {}
    now, before = (found.cells["churn", "1"].online for found in (state, kept))
    assert now
    assert before
    for of, window, was in zip(now.layout.adwins, now.windows, before.windows, strict=True):
        expected = adwin.seeded(0.5, of.fed[0], of.fed[1], 1000) if of.detector == "adwin" else was
        assert adwin.dump(window, of.delta) == adwin.dump(expected, of.delta)


def test_a_cell_whose_baseline_was_retired_is_left_out_alone_and_removed() -> None:
    of = saved()["predictions"]
    whole, _ = of.load(of.values)
    known = watching(SENSITIVE, *baselines()[1:])
    state, damaged = profile_snapshot.load(0, 2, of.values, known)
    assert damaged == {}
    assert state.next_offset == whole.next_offset
    assert state.cells.keys() == whole.cells.keys() - {("churn", "1")}
    assert all("is not on the baselines topic any more" in line for line in state.left_out)
    assert sorted(state.left_out.values()) == [0] + [1] * len(whole.cells["churn", "1"].windows)  # 0: the detectors
    values = list(profile_snapshot.dump(state, known))
    assert [key for key, _ in values] == [OWN, CHURN]
    assert values[1] == (CHURN, b"")
    again, damaged = profile_snapshot.load(0, 2, {**of.values, **dict(values[:1])}, known)  # died between the two
    assert (again.cells.keys(), damaged) == (state.cells.keys(), {})


def test_of_a_cell_only_what_a_replaced_baseline_had_counted_is_left_out() -> None:
    of = saved()["predictions"]
    corrected = watching(SENSITIVE, *baselines()).with_baseline(churn("1", seed=9))
    state, damaged = profile_snapshot.load(0, 2, of.values, corrected)
    assert (damaged, state.left_out) == ({}, {})  # the worker still has the one that was replaced
    fresh = watching(SENSITIVE, *baselines()[1:], churn("1", seed=9))
    state, damaged = profile_snapshot.load(0, 2, of.values, fresh)
    assert damaged == {}
    cell = state.cells["churn", "1"]
    assert (cell.windows, cell.online) == ({}, None)
    assert cell.next_offset == state.next_offset


# Ten thousand mutants.


def flipped(rng: np.random.Generator, raw: bytes) -> bytes:
    found = bytearray(raw)
    for place in rng.integers(len(raw), size=rng.integers(1, 5)).tolist():
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def truncated(rng: np.random.Generator, raw: bytes) -> bytes:
    return raw[: rng.integers(len(raw))] if rng.random() < 0.5 else raw[rng.integers(1, len(raw)) :]


def spliced(rng: np.random.Generator, raw: bytes) -> bytes:
    start, stop = sorted(rng.integers(len(raw), size=2).tolist())
    middle = rng.bytes(int(rng.integers(20))) if rng.random() < 0.5 else raw[: int(rng.integers(200))]
    return raw[:start] + middle + raw[stop:]


def foreign(rng: np.random.Generator, raw: bytes) -> bytes:
    return rng.bytes(int(rng.integers(200))) if rng.random() < 0.5 else raw[:19] + rng.bytes(len(raw) - 19)


def prolonged(rng: np.random.Generator, raw: bytes) -> bytes:
    return raw + rng.bytes(int(rng.integers(1, 50)))


MUTATIONS = [flipped, truncated, spliced, foreign, prolonged]


def test_of_ten_thousand_mutants_none_is_believed() -> None:
    rng = np.random.default_rng(20_201)
    values = [(of, key) for of in saved().values() for key in of.values]
    caught = unchanged = 0
    for number in range(N_MUTANTS):
        of, key = values[number % len(values)]
        raw = MUTATIONS[number % len(MUTATIONS)](rng, of.values[key])
        unchanged += raw == of.values[key]
        _, damaged = of.load({**of.values, key: raw})
        assert set(damaged) == ({key} if raw != of.values[key] else set())
        caught += len(damaged)
    assert caught + unchanged == N_MUTANTS
    assert unchanged < N_MUTANTS / 100


@pytest.mark.parametrize("topic", STAGES)
def test_sound_values_in_the_wrong_place_are_damage(topic: str) -> None:
    of = saved()[topic]
    cells = [key for key in of.values if key != OWN]
    for key in of.values:
        other = next(each for each in cells if each != key)
        assert key in of.load({**of.values, key: of.values[other]})[1]
    other_stage = next(each for name, each in saved().items() if name != topic)
    for key in other_stage.values.keys() & of.values.keys():
        assert key in of.load({**of.values, key: other_stage.values[key]})[1]
    elsewhere = (stage_one if topic == "predictions" else stage_two)(of.values, watch(), partition=7)
    assert elsewhere.load(of.values)[1].keys() == of.values.keys()


def resealed(raw: bytes, payload: bytes) -> bytes:
    """A mutant that the checksum vouches for."""
    body = msgspec.msgpack.encode(msgspec.structs.replace(unseal(raw), payload=payload))
    return envelope._FRAME.pack(b"driftline", FORMAT, zlib.crc32(body, FORMAT)) + body


@pytest.mark.parametrize("key", [CHURN, OWN])
def test_what_a_checksum_vouches_for_is_checked_all_the_same(key: bytes) -> None:
    """Whatever is believed can be worked with: nothing that river panics of gets through."""
    rng = np.random.default_rng(1)
    of = saved()["predictions"]
    payload = unseal(of.values[key]).payload
    rows = spread(prediction_log(4, Shape(n=1000, step_ms=900)), 2)[0]
    batch, _ = wire.decode(rows[400:], watch(), MAX_BYTES)
    refused = 0
    for number in range(400):
        # Anywhere, and in the detectors' part: the trees' masses are its end, most of the rest is ADWIN's.
        start = 0 if number % 2 else len(payload) - 27_000
        tail = max(0, start)
        mutant = payload[:tail] + flipped(rng, payload[tail:])
        try:
            state, damaged = of.load({**of.values, key: resealed(of.values[key], mutant)})
        except OperatorError:  # it might be a state of another window length
            refused += 1
            continue
        refused += bool(damaged)
        profiling.step(state, batch, watch())
    assert refused > 100


# Other versions.


def test_a_newer_format_is_refused_and_names_the_remedy() -> None:
    for of in saved().values():
        for key, raw in of.values.items():
            body = raw[envelope._FRAME.size :] + b"and what a newer format may add"
            for other in (FORMAT - 1, FORMAT + 1):
                foreign = envelope._FRAME.pack(b"driftline", other, zlib.crc32(body, other)) + body
                with pytest.raises(UnknownFormat, match=f"snapshot format {other}, .*`driftline reset`"):
                    of.load({**of.values, key: foreign})


def test_another_river_is_refused() -> None:
    raw = saved()["predictions"].values[CHURN]
    body = msgspec.msgpack.encode(msgspec.structs.replace(unseal(raw), river="9.9"))
    with pytest.raises(UnknownFormat, match=r"made with river 9\.9, this is"):
        unseal(envelope._FRAME.pack(b"driftline", FORMAT, zlib.crc32(body, FORMAT)) + body)


# Golden files: what a worker of an earlier release saved must load in all later ones.


def golden(number: int, stage: str) -> Saved:
    folder = GOLDEN / f"snapshot-{number}"
    [home] = folder.glob(f"{stage}-*")
    values = {key_of(path): path.read_bytes() for path in home.glob("*.bin")}
    known = watching(SENSITIVE, Baseline.from_json((folder / "baseline.json").read_bytes()))
    vars(known)["plan_hash"] = unseal(values[OWN]).plan  # of that time's plan; plans get new fields
    return (stage_one if stage == "predictions" else stage_two)(values, known, int(home.name.split("-")[1]))


def key_of(path: Path) -> bytes:
    return OWN if path.stem == "own" else path.stem.replace("@", "|").encode()


@pytest.mark.parametrize("stage", STAGES)
def test_golden_states_load_and_are_written_as_they_were(stage: str) -> None:
    of = golden(FORMAT, stage)
    assert of.values.keys() == {OWN, CHURN}
    state, damaged = of.load(of.values)
    assert damaged == {}
    assert state.next_offset == unseal(of.values[OWN]).next_offset > 0
    assert dumped(of, state) == of.values


def write_golden() -> None:
    """Write the golden files of the current format, small ones: one model, one partition of two."""
    baseline, folder = baselines()[0], GOLDEN / f"snapshot-{FORMAT}"
    found = Rehearsal(watching(SENSITIVE, baseline), dict.fromkeys(STAGES, 2))
    for partition, records in enumerate(spread(prediction_log(5, Shape(n=500)), 2)):
        found.broker.publish("predictions", partition, [(each.value, each.timestamp) for each in records])
    asyncio.run(found.run([Turn("idle", place) for place in found.places]))
    for (stage, partition), values in found.broker.saved.items():
        if CHURN in values and not list(folder.glob(f"{stage}-*")):
            home = folder / f"{stage}-{partition}"
            home.mkdir(parents=True)
            for key, raw in values.items():
                (home / f"{key.decode().replace('|', '@') or 'own'}.bin").write_bytes(raw)
    (folder / "baseline.json").write_bytes(baseline.to_json())


if __name__ == "__main__":
    write_golden()
