"""For services and for those who wait for alerts: log predictions, subscribe to what driftline finds."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Required, Self, TypedDict, Unpack

from driftline.detectors.documents.alerts import Alert
from driftline.streams.config.settings import Worker
from driftline.streams.formats.plain import encoded, plain
from driftline.streams.kafka.connection import address
from driftline.streams.kafka.outbox import Outbox
from driftline.streams.kafka.reader import Start, Stop, TopicReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType

    from driftline.streams.config.settings import Kafka

MAX_RECORD_BYTES = Worker().max_record_bytes


class PredictionFields(TypedDict, total=False):
    """What can be logged of a prediction; :class:`~driftline.detectors.documents.predictions.Prediction` says what each means."""

    model: Required[str]
    version: Required[str]
    features: Required[Mapping[str, Any]]
    prediction: Required[Any]
    id: str | int | None
    timestamp: datetime | float | str | None
    latency_ms: float | None
    status: str | int | None
    segment: Mapping[str, str] | None
    label: Any
    weight: float | None


class PredictionLogger:
    """Logs a service's predictions to Kafka.

    An asynchronous context manager: leaving it waits until Kafka has acknowledged every prediction, or raises.

    Parameters
    ----------
    kafka
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.settings.Kafka` that says how to get in.
    topic
        Where predictions go.
    max_record_bytes
        What the workers' ``worker.max_record_bytes`` is.

    Examples
    --------
    ::

        async with PredictionLogger("localhost:9092") as logger:
            await logger.log(model="churn", version="v3", features={"age": 41, "plan": "basic"}, prediction=0.12)
    """

    def __init__(
        self,
        kafka: Kafka | str = "localhost:9092",
        topic: str = "predictions",
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._outbox = Outbox(address(kafka), topic)
        self._max_record_bytes = max_record_bytes

    async def __aenter__(self) -> Self:
        await self._outbox.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._outbox.__aexit__(kind, error, trace)

    @property
    def acknowledged(self) -> int:
        """Predictions that all in-sync replicas have."""
        return self._outbox.acknowledged

    @property
    def failed(self) -> int:
        """Predictions that Kafka did not take."""
        return self._outbox.failed

    async def log(self, **prediction: Unpack[PredictionFields]) -> str:
        """Log one prediction and wait for its acknowledgement.

        Tasks that log at the same time share a request. One task that logs many in a row had better :meth:`send`.

        Parameters
        ----------
        prediction
            Fields of :class:`PredictionFields`. Values may be numpy's, pandas' or Decimals, features a Series, and
            classes integers. A NaN counts as missing: JSON has none. A time is one with a time zone, ISO 8601, or a
            number since the epoch. Without an id it gets a random one. What a worker would drop is not refused.

        Returns
        -------
        The prediction's id, by which a label will find it.

        Raises
        ------
        ValueError
            For a prediction that a worker would refuse.
        KafkaUnreachable
            Where no broker acknowledges it.
        OperatorError
            Where Kafka refuses it.
        """
        identifier, future = await self._send(prediction)
        await self._outbox.settled(future)
        return identifier

    async def send(self, **prediction: Unpack[PredictionFields]) -> str:
        """Hand one prediction over and return at once: :meth:`flush` tells whether it arrived.

        Waits only while the buffer is full. Parameters, result and errors are those of :meth:`log`.
        """
        identifier, _ = await self._send(prediction)
        return identifier

    async def flush(self) -> None:
        """Wait until every prediction is acknowledged or given up.

        Raises
        ------
        KafkaUnreachable
            Where some were given up because no broker acknowledged them; once for each loss.
        OperatorError
            Where Kafka refused them.
        """
        await self._outbox.flush()

    async def _send(self, prediction: PredictionFields) -> tuple[str, asyncio.Future[Any]]:
        given = plain(prediction.get("id"))
        identifier = uuid.uuid4().hex if given is None else str(given)
        value = encoded({**prediction, "id": identifier}, self._max_record_bytes)
        return identifier, await self._outbox.send(value, identifier.encode())


class AlertSubscriber(TopicReader[Alert]):
    """Alerts as they are published.

    An asynchronous context manager, and inside it an asynchronous iterator over
    :class:`~driftline.detectors.documents.alerts.Alert`. An alert may come twice, with the same id.

    Parameters
    ----------
    kafka
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.settings.Kafka` that says how to get in.
    topic
        Where alerts are.
    start
        ``"end"``: only new ones; ``"beginning"``: all that the topic keeps; a number: so many old ones too.
    stop
        ``"never"``, or ``"end"``: where the topic ends now.

    Examples
    --------
    ::

        async with AlertSubscriber("localhost:9092") as alerts:
            async for alert in alerts:
                print(alert.severity, alert.summary)
    """

    def __init__(
        self,
        kafka: Kafka | str = "localhost:9092",
        topic: str = "alerts",
        start: Start = "end",
        stop: Stop = "never",
    ) -> None:
        super().__init__(kafka, topic, Alert, start, stop)
