"""The workers' consumer group as Kafka knows it: members, and how far they have committed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COORDINATOR_ATTEMPTS, COORDINATOR_PAUSE_S = 100, 0.2
"""A broker without any group yet first makes the topic in which it keeps them."""


class Group(NamedTuple):
    """A consumer group.

    Parameters
    ----------
    state
        Kafka's word: ``Stable``, ``Empty``, ``Dead`` where there is none.
    members
        Hosts of its members, one each.
    committed
        Topic and partition to the next offset to be read.
    """

    state: str
    members: list[str]
    committed: Mapping[tuple[str, int], int]


async def describe_group(admin: Any, app_id: str) -> Group:
    """Ask for a group; one that never was is dead and has no members.

    Parameters
    ----------
    admin
        A started admin client of aiokafka.
    app_id
        The group's name, which is the workers' ``app_id``.
    """
    from aiokafka import errors  # noqa: PLC0415 - 0.2 s that `--help` has no use for

    refused: Any = errors.GroupCoordinatorNotAvailableError(f"no coordinator of group {app_id!r}")
    for _ in range(COORDINATOR_ATTEMPTS):
        try:
            (answer,) = await admin.describe_consumer_groups([app_id])
            code, _, state, _, _, members, *_ = answer.groups[0]
        except (errors.GroupCoordinatorNotAvailableError, errors.NotCoordinatorForGroupError) as error:
            refused = error
        else:
            if not code:
                break
            refused = errors.for_code(code)(f"group {app_id!r}")
            if not refused.retriable:
                raise refused
        await asyncio.sleep(COORDINATOR_PAUSE_S)
    else:
        raise refused
    offsets = await admin.list_consumer_group_offsets(app_id)
    committed = {(place.topic, place.partition): found.offset for place, found in offsets.items()}
    return Group(state, sorted(host.lstrip("/") for _, _, host, *_ in members), committed)


async def rewind(consumer: Any, places: Iterable[Any]) -> None:
    """Let a group without members begin anew: commit the first offset that each partition has.

    Parameters
    ----------
    consumer
        A started consumer of the group that has not subscribed to anything.
    places
        Partitions, as aiokafka names them.
    """
    partitions = list(places)
    consumer.assign(partitions)
    await consumer.commit(await consumer.beginning_offsets(partitions))
