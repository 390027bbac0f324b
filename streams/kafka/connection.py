"""From the configuration to clients of Kafka: the one place that knows how aiokafka and Faust want to be told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from driftline.detectors.errors import OperatorError
from driftline.streams.config.settings import Kafka
from driftline.streams.kafka.credentials import password, tls
from driftline.streams.kafka.listeners import PROBE_S, advertised, first_answering, stray
from driftline.streams.kafka.remedies import typed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 3.0
"""For a client to close after a failure: an idempotent producer waits for ever for brokers that are away."""

FAREWELL_S = 0.2
"""For TLS to close a connection that came to nothing: aiokafka does not wait for it, and the loop may end at once."""


class KafkaUnreachable(OperatorError):  # noqa: N818 - named for what was met, like the others of the tree
    """No broker answers at the address, or none lets us in."""


class KafkaFailed(OperatorError):  # noqa: N818 - see above
    """Kafka refused a request for a reason of its own: nobody has to act, a later attempt may succeed."""


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Return the keyword arguments that every aiokafka client takes.

    Raises
    ------
    OperatorError
        Where a file that the configuration names can't be used.

    Examples
    --------
    >>> client_options(Kafka(bootstrap_servers="broker:9092"))
    {'bootstrap_servers': 'broker:9092', 'client_id': 'driftline', 'security_protocol': 'PLAINTEXT'}
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "client_id": "driftline",
        "security_protocol": kafka.security_protocol,
    }
    if kafka.uses_tls:
        options["ssl_context"] = tls(kafka)
    if kafka.uses_sasl:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username  # SCRAM's too, whatever the name says
        options["sasl_plain_password"] = password(kafka)
    return options


def servers(kafka: Kafka) -> list[str]:
    """Return the bootstrap addresses."""
    return [server.strip() for server in kafka.bootstrap_servers.split(",")]


def address(kafka: Kafka | str) -> Kafka:
    """Return a full description of where Kafka is, for those who gave the address only."""
    return Kafka(bootstrap_servers=kafka) if isinstance(kafka, str) else kafka


@asynccontextmanager
async def opened(make: Callable[..., Any], kafka: Kafka, **options: Any) -> AsyncIterator[Any]:
    """Connect a client of aiokafka, and close it at the end of the ``async with`` statement.

    A producer then still sends what it was given; unless the statement ends by an exception, after which nobody counts
    on it: a closing that takes longer than 3 s is then given up.

    Parameters
    ----------
    make
        The client's class.
    kafka
        Where Kafka is.
    options
        What this client wants apart from the connection.

    Raises
    ------
    KafkaUnreachable
        Where no broker answers within 10 s; at once where the connection is refused.
    OperatorError
        Where Kafka refuses what was asked.
    """
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - 0.2 s that the configuration commands don't need

    settled, client = client_options(kafka), None
    with _warnings() as warnings:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                answered = await first_answering(servers(kafka))
                client = make(**settled | {"bootstrap_servers": answered}, **options)
                await client.start()
                await _check_listeners(kafka, client, answered)
        except OperatorError:
            await _give_up(kafka, client)
            raise
        except (KafkaError, OSError) as error:  # a TimeoutError is an OSError
            if client is not None:
                await _give_up(kafka, client)
                await _refuse_stray(kafka, client)
            reasons = [*warnings, str(error), f"no answer within {CONNECT_TIMEOUT_S:g} s"]
            raise unreachable(kafka, next(filter(None, reasons))) from error
    limit_s: float | None = CLOSE_TIMEOUT_S
    try:
        yield client
        limit_s = None
    except KafkaError as error:
        if isinstance(problem := explained(kafka, error), KafkaUnreachable):
            await _refuse_stray(kafka, client)
        raise problem from error
    finally:
        await _close(client, limit_s)


async def probe(kafka: Kafka) -> None:
    """Find out whether Kafka answers and lets us in.

    Raises
    ------
    KafkaUnreachable
        Where it does not, within 10 s.
    """
    from aiokafka.admin import AIOKafkaAdminClient  # noqa: PLC0415 - see `opened`

    async with opened(AIOKafkaAdminClient, kafka):
        pass


def unreachable(kafka: Kafka, reason: str) -> KafkaUnreachable:
    """Return the error for an address where nothing of use answers."""
    return KafkaUnreachable(
        f"kafka.bootstrap_servers = {kafka.bootstrap_servers!r}: {reason}; check the address (--bootstrap-servers), that "
        f"the broker runs, and kafka.security_protocol ({kafka.security_protocol})"
    )


def explained(kafka: Kafka, error: BaseException) -> OperatorError:
    """Return an error of aiokafka as one that names the remedy."""
    from aiokafka import errors  # noqa: PLC0415 - see `opened`

    reason = str(error) or type(error).__name__
    forbidden = (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
    )
    if isinstance(error, forbidden):
        return OperatorError(
            f"Kafka refused: {reason}; kafka.sasl_username = {kafka.sasl_username!r} needs an ACL for it"
        )
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return OperatorError(f"{reason}; make the topics with {typed('topics create', kafka)}")
    if isinstance(error, errors.KafkaTimeoutError) or getattr(error, "retriable", False):  # tried until time was up
        return unreachable(kafka, reason)
    mistaken = (
        errors.MessageSizeTooLargeError,
        errors.RecordListTooLargeError,
        errors.InvalidTopicError,
        errors.PolicyViolationError,
        errors.UnsupportedVersionError,
        errors.IncompatibleBrokerVersion,
    )
    if isinstance(error, mistaken):
        return OperatorError(f"Kafka refused: {reason}")
    return KafkaFailed(f"Kafka refused: {reason}; try again")


async def is_reachable(kafka: Kafka) -> bool:
    """Tell whether some address takes a connection within 3 s."""
    try:
        async with asyncio.timeout(PROBE_S):
            await first_answering(servers(kafka))
    except OSError:
        return False
    return True


async def _check_listeners(kafka: Kafka, client: Any, answered: str) -> None:
    """Refuse brokers none of which can be reached where they say they are."""
    servers = advertised(client)
    if not servers or answered in servers:
        return
    try:
        async with asyncio.timeout(PROBE_S):
            await first_answering(servers)
    except OSError:
        await _refuse_stray(kafka, client)


async def _refuse_stray(kafka: Kafka, client: Any) -> None:
    """After a failure: tell of each broker that can't be reached where it says it is, if that is the cause."""
    elsewhere = [server for server in advertised(client) if server not in servers(kafka)]
    if (found := await stray(elsewhere)) and await is_reachable(kafka):
        raise KafkaUnreachable(
            f"kafka.bootstrap_servers = {kafka.bootstrap_servers!r} answers, but says that brokers are at "
            f"{', '.join(found)}; set advertised.listeners of these brokers to addresses that this machine can reach, or "
            "let this machine resolve the name"
        )


async def _give_up(kafka: Kafka, client: Any) -> None:
    await _close(client, CLOSE_TIMEOUT_S)
    await asyncio.sleep(FAREWELL_S if kafka.uses_tls else 0)


async def _close(client: Any, limit_s: float | None) -> None:
    # A task of its own, for aiokafka may cancel what it waits for, and we would take that for our own cancellation.
    closing = asyncio.ensure_future(client.close() if hasattr(client, "close") else client.stop())  # two words for it
    await asyncio.wait([closing], timeout=limit_s)
    if not closing.done():
        closing.cancel()
        log.warning("%s: did not close within %s s", type(client).__name__, limit_s)
    elif not closing.cancelled():
        closing.result()


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what aiokafka logs, newest first: its exception for a wrong password says no more than "unable"."""
    messages: list[str] = []
    collector = logging.Handler(logging.WARNING)
    collector.emit = lambda record: messages.insert(0, record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("aiokafka")
    logger.addHandler(collector)
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
