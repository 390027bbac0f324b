"""What the pump does with states that are damaged, or of another shape than what is watched now."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from driftline.detectors.errors import OperatorError
from driftline.detectors.plan import Plan
from driftline.detectors.snapshots.envelope import OWN, cell_key
from tests.logs import baselines, watching
from tests.pump_bench import P0, Bench, in_a_loop, rehearsal, watch
from tests.simulator import Outcome, Rehearsal, Turn

if TYPE_CHECKING:
    from driftline.detectors.layout.watch import Watch
    from tests.memory_broker import Broker


@pytest.fixture(scope="module")
def undisturbed() -> Outcome:
    return asyncio.run(rehearsal().run(()))


# Damage.

POLLS = [Turn(name, place, 70) for _ in range(2) for name in ("poll", "save") for place in (P0, ("partials", 0))]


async def damaged(place: tuple[str, int], key: bytes, value: bytes | None) -> tuple[Rehearsal, Outcome]:
    """A run in which one saved value is replaced, or removed, before a new worker takes over."""
    found = rehearsal()
    for turn in POLLS:
        await found.turn(turn)
    saved = found.broker.saved[place]
    if value is None:
        del saved[key]
    else:
        assert key in saved or key.startswith(b"foreign")
        saved[key] = value
    found.replace(Turn("", place))
    await found.turn(Turn("poll", place, 10))
    return found, await found.run([Turn("save", each) for each in found.places])


CHURN = cell_key("churn", "1")


@pytest.mark.parametrize("place", [P0, ("partials", 0)])
@pytest.mark.parametrize(
    ("key", "value"),
    [(CHURN, b"driftline"), (CHURN, None), (OWN, b"\x00" * 100), (b"foreign|1", b"?"), (b"foreign", b"?")],
)
@in_a_loop
async def test_a_damaged_cell_is_rebuilt_from_the_log_as_if_nothing_had_been(
    place: tuple[str, int], key: bytes, value: bytes | None, undisturbed: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        found, left = await damaged(place, key, value)
    assert left == undisturbed
    assert any("read again from its beginning" in message for message in caplog.messages)
    stage = {"predictions": "profiling", "partials": "verdict"}[place[0]]
    assert found.metrics.registry.get_sample_value("driftline_damaged_snapshots_total", {"stage": stage}) == 1
    caplog.clear()
    found.replace(Turn("", place))  # what was damaged has been written over, or removed
    assert await found.run(()) == undisturbed
    assert caplog.messages == []


@in_a_loop
async def test_a_damaged_cell_that_the_log_no_longer_reaches_starts_afresh_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()
    await bench.take(200)
    await bench.pump.checkpoint(0)
    bench.broker.saved[P0][CHURN] = b"?"
    bench.log.truncate(150)
    bench.restart()
    with caplog.at_level(logging.ERROR):
        await bench.drain()
    assert caplog.messages == [
        "predictions[0]: snapshot of 1 bytes: wrong checksum; left out, the log is read again from its beginning",
        "predictions[0]: 150 records lost, offsets 0 to 149: retention took them before they were read",
    ]
    assert bench.lost == 150
    assert bench.next_offset == bench.log.end
    assert {key[0] for key in bench.pump.states[0].cells} == {"churn", "fraud"}


# What an operator must put right.


async def saved_by(known: Watch, partitions: int) -> Broker:
    found = rehearsal(known, partitions)
    await found.run(())
    return found.broker


@pytest.mark.parametrize(
    ("topic", "known", "message"),
    [
        (
            "predictions",
            None,
            r"partitions of the predictions topic = 2, but the saved state has 1: .*`driftline reset`",
        ),
        ("partials", None, r"partitions of the partials topic = 2, but the saved state has 1: .*`driftline reset`"),
        (
            "predictions",
            Plan(window_ms=30_000),
            r"plan.window_ms = 30000, but the saved state has 60000: .*`driftline reset`",
        ),
    ],
)
@in_a_loop
async def test_a_state_of_another_shape_is_refused(topic: str, known: Plan | None, message: str) -> None:
    before = await saved_by(watch(), 1)
    after = rehearsal(watching(known, *baselines()) if known else None, 1 if known else 2)
    after.broker.saved = before.saved
    with pytest.raises(OperatorError, match=message):
        after.owners[topic, 0].pumps[topic].own([0])
