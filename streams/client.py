"""For services and for those who wait for alerts: log predictions, subscribe to what driftline finds."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any, Required, Self, TypedDict, Unpack

import msgspec
import orjson

from driftline.detectors.alerts import Alert
from driftline.detectors.baseline import PREDICTION
from driftline.detectors.records import Prediction
from driftline.streams.connection import address
from driftline.streams.outbox import Outbox
from driftline.streams.reader import Start, Stop, TopicReader

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from types import TracebackType

    from driftline.streams.config import Kafka


class PredictionFields(TypedDict, total=False):
    """What can be logged of a prediction; :class:`~driftline.detectors.records.Prediction` says what each means."""

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
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.Kafka` that says how to get in.
    topic
        Where predictions go.

    Examples
    --------
    ::

        async with PredictionLogger("localhost:9092") as logger:
            await logger.log(model="churn", version="v3", features={"age": 41, "plan": "basic"}, prediction=0.12)
    """

    def __init__(self, kafka: Kafka | str = "localhost:9092", topic: str = "predictions") -> None:
        self._outbox = Outbox(address(kafka), topic)

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
            Fields of :class:`PredictionFields`. Numbers may be numpy's. A NaN counts as missing: JSON has none. A time
            is one with a time zone, ISO 8601, or a number since the epoch. Without an id it gets a random one.

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
        given = prediction.get("id")
        identifier = uuid.uuid4().hex if given is None else str(given)
        value = _encoded({**prediction, "id": identifier})
        return identifier, await self._outbox.send(value, identifier.encode())


class AlertSubscriber(TopicReader[Alert]):
    """Alerts as they are published.

    An asynchronous context manager, and inside it an asynchronous iterator over
    :class:`~driftline.detectors.alerts.Alert`. An alert may come twice, with the same id.

    Parameters
    ----------
    kafka
        Where Kafka is: ``host:port``, or a :class:`~driftline.streams.config.Kafka` that says how to get in.
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


def _encoded(document: Mapping[str, Any]) -> bytes:
    """Return a prediction as bytes, if a worker would take them."""
    told = document.get("timestamp")
    if isinstance(told, datetime) and told.tzinfo is None:
        raise ValueError(f"timestamp {told.isoformat()} has no time zone: use datetime.now(UTC)")
    known = {name: value for name, value in document.items() if value is not None or name == PREDICTION}
    if unknown := known.keys() - set(Prediction.__struct_fields__):
        raise ValueError(f"a prediction has no {', '.join(sorted(unknown))}")
    try:
        value = orjson.dumps(known, option=orjson.OPT_SERIALIZE_NUMPY)
        msgspec.json.decode(value, type=Prediction)
    except (orjson.JSONEncodeError, msgspec.DecodeError) as error:
        raise ValueError(f"prediction {document['id']}: {error}") from error
    return value
