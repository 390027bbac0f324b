"""Publishing a baseline: from which moment it is in force, and onto topic ``baselines``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.errors import OperatorError
from driftline.detectors.layout.plan_names import exposed_by
from driftline.streams.kafka.outbox import Outbox
from driftline.streams.kafka.reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from driftline.streams.config.settings import Settings


class Published(NamedTuple):
    """What came of publishing.

    Parameters
    ----------
    baseline
        The baseline with the moment from which it is in force.
    is_new
        False where just this baseline was in force already: then nothing was written.
    """

    baseline: Baseline
    is_new: bool


def effective_from(known: Sequence[Baseline], now_ms: int, window_ms: int) -> int:
    """The moment from which a model version's next baseline is in force, unless the operator says another.

    Parameters
    ----------
    known
        Its baselines so far.
    now_ms, window_ms
        The time, and the length of the windows.

    Examples
    --------
    The first one is in force from the beginning of time, so that last year's log can be read today; a later one from
    the next window.

    >>> baseline = Baseline(model="churn", version="v1", n=1, signals={})
    >>> effective_from([], 125_000, 60_000), effective_from([baseline], 125_000, 60_000)
    (0, 180000)
    """
    return now_ms - now_ms % window_ms + window_ms if known else 0


async def publish_baseline(settings: Settings, baseline: Baseline, requested_ms: int | None, now_ms: int) -> Published:
    """Publish a baseline, acknowledged by all in-sync replicas.

    Parameters
    ----------
    settings
        Where Kafka is, how the topic is called, how long the windows are.
    baseline
        A sealed baseline.
    requested_ms
        From when it is in force; None: by :func:`effective_from`.
    now_ms
        The time.

    Raises
    ------
    OperatorError
        Where Kafka does not take it, or it shows values of a signal that the plan declares sensitive.
    """
    for sentence in exposed_by(baseline, settings.plan):
        raise OperatorError(sentence)
    known = await _known(settings, baseline)
    newest = max(known, key=lambda each: each.effective_from_ms, default=None)
    if newest is not None and newest.hash == baseline.hash and requested_ms in (None, newest.effective_from_ms):
        return Published(newest, is_new=False)
    start_ms = effective_from(known, now_ms, settings.plan.window_ms) if requested_ms is None else requested_ms
    placed = msgspec.structs.replace(baseline, effective_from_ms=start_ms)
    async with Outbox(settings.kafka, settings.topics.baselines) as outbox:
        await outbox.send(placed.to_json(), f"{placed.model}|{placed.version}".encode())
    return Published(placed, is_new=True)


async def _known(settings: Settings, baseline: Baseline) -> list[Baseline]:
    """The model version's baselines that the topic still has, oldest first."""
    async with TopicReader(settings.kafka, settings.topics.baselines, Baseline, "beginning", "end") as found:
        return [each async for each in found if (each.model, each.version) == (baseline.model, baseline.version)]
