"""The demo's stream: an imaginary credit model, the people who ask it, and five faults upstream of it.

Every window is drawn from a seed of its own, so the stream is the same however much of it is made at once. A fault
changes what the model is given; the prediction is then made of the faulty input, as it would be.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr

from driftline.detectors.arrays import F64
from driftline.detectors.documents.baseline import PREDICTION
from driftline.detectors.documents.predictions import Value

MODEL, VERSION = "credit", "v1"
SEED = 42
EPOCH_MS = 1_704_067_200_000
"""Event time of the stream's first record: 2024-01-01T00:00:00Z."""
WINDOW_MS = 10_000
_TRAINING = 1_000_000  # no window has this number

Table = dict[str, npt.NDArray[Any]]
"""Signal to its values; in a numeric one NaN is missing."""
Random = np.random.Generator


class Fault(NamedTuple):
    """Something that goes wrong upstream.

    Parameters
    ----------
    name
        What went wrong, in few words.
    signals
        Signals of which an alert tells of this fault; an empty name stands for the record or window as a whole.
    inject
        The rows of a window with the fault in them.
    hidden
        Why it may escape; said where it does.
    """

    name: str
    signals: frozenset[str]
    inject: Callable[[Table, Random], Table]
    hidden: str = ""


class Phase(NamedTuple):
    """Windows ``start <= index < stop`` of the stream, with the same fault in them, or none."""

    start: int
    stop: int
    fault: Fault | None


def schedule(clean: int, faulty: int, pause: int) -> list[Phase]:
    """The stream's phases: a clean half, then every fault in turn, each followed by a clean pause.

    Parameters
    ----------
    clean, faulty, pause
        Windows of the clean half, of each fault, and of each pause.

    Examples
    --------
    >>> [(phase.start, phase.stop, phase.fault is None) for phase in schedule(12, 3, 3)][:3]
    [(0, 12, True), (12, 15, False), (15, 18, True)]
    """
    phases = [Phase(0, clean, None)]
    for fault in FAULTS:
        start = phases[-1].stop
        phases += [Phase(start, start + faulty, fault), Phase(start + faulty, start + faulty + pause, None)]
    return phases


def training_columns(n: int, seed: int = SEED) -> dict[str, list[Value]]:
    """Rows that the model was trained on, with its predictions, as columns for ``detectors.fit``."""
    table = predicted(applicants(n, np.random.default_rng([seed, _TRAINING])))
    return {name: _values(column) for name, column in table.items()}


def documents(phases: Sequence[Phase], rows: int, seed: int = SEED) -> Iterator[list[dict[str, Any]]]:
    """The stream: the prediction documents of one window at a time, in order of their event times.

    Parameters
    ----------
    phases
        As :func:`schedule` gives them.
    rows
        Records of a window, evenly spread over it.
    seed
        The same seed gives the same stream.
    """
    for phase in phases:
        for index in range(phase.start, phase.stop):
            random = np.random.default_rng([seed, index])
            table = applicants(rows, random)
            if phase.fault is not None:
                table = phase.fault.inject(table, random)
            yield _documents(predicted(table), index)


def _documents(table: Table, index: int) -> list[dict[str, Any]]:
    columns = {name: _values(column) for name, column in table.items()}
    predictions = columns.pop(PREDICTION)
    n = len(predictions)
    start_ms = EPOCH_MS + index * WINDOW_MS
    return [
        {
            "model": MODEL,
            "version": VERSION,
            "id": f"{index:04d}-{row:05d}",
            "timestamp": start_ms + row * WINDOW_MS // n,
            "features": {name: column[row] for name, column in columns.items()},
            PREDICTION: predictions[row],
        }
        for row in range(n)
    ]


def _values(column: npt.NDArray[Any]) -> list[Value]:
    values: list[Value] = column.tolist()
    return [None if value != value else value for value in values]  # noqa: PLR0124 - NaN differs from itself


def applicants(n: int, random: Random) -> Table:
    """Draw people who ask for credit: nine numeric features out of two common factors, and three categories."""
    wealth, years = random.normal(size=(2, n))
    own = random.normal(size=(9, n))

    def mix(of_wealth: float, of_years: float, place: int) -> F64:
        """A standard normal that correlates with the two factors as told."""
        mixed: F64 = of_wealth * wealth + of_years * years + np.sqrt(1 - of_wealth**2 - of_years**2) * own[place]
        return mixed

    income = mix(0.75, 0.25, 0)
    # The model is given the spending, too, but has learnt to do without it.
    spending = 0.95 * income + np.sqrt(1 - 0.95**2) * own[1]
    return {
        "age": np.floor(18 + 67 * ndtr(0.9 * mix(0.0, 0.9, 2) - 0.3)),
        "income": np.exp(10.4 + 0.5 * income).round(2),
        "monthly_spending": np.exp(7.2 + 0.55 * spending).round(2),
        "loan_amount": np.exp(9.2 + 0.6 * mix(0.5, 0.1, 3)).round(-2),
        "months_employed": np.floor(420 * ndtr(mix(0.1, 0.7, 4) - 0.6)),
        "savings": np.exp(8.0 + 1.1 * mix(0.7, 0.4, 5)).round(2),
        "utilisation": ndtr(mix(-0.5, 0.0, 6) - 0.3).round(3),
        "late_payments": random.poisson(np.exp(-0.5 - 0.4 * wealth)).astype(np.float64),
        "years_at_address": np.exp(1.4 + 0.8 * mix(0.0, 0.5, 7)).round(1),
        "purpose": random.choice(PURPOSES, size=n, p=[0.38, 0.27, 0.17, 0.12, 0.06]),
        "channel": random.choice(CHANNELS, size=n, p=[0.55, 0.3, 0.15]),
        "region": random.choice(REGIONS, size=n, p=[0.2, 0.18, 0.16, 0.13, 0.12, 0.1, 0.07, 0.04]),
    }


def predicted(table: Table) -> Table:
    """The table with the model's output: the probability of default, three digits; missing input counts as typical."""
    odds = (
        -2.2
        - 0.9 * (np.log(table["income"]) - 10.4)
        + 0.6 * (np.log(table["loan_amount"]) - 9.2)
        + 1.8 * (table["utilisation"] - 0.4)
        + 0.5 * table["late_payments"]
        - 0.002 * np.nan_to_num(table["months_employed"] - 130)
        - 0.008 * (table["age"] - 45)
        + 0.3 * (table["purpose"] == "education")
    )
    return table | {PREDICTION: expit(odds).round(3)}


def _net_income(table: Table, _random: Random) -> Table:
    return table | {"income": (0.85 * table["income"]).round(2)}


def _new_purpose(table: Table, random: Random) -> Table:
    is_new = random.random(table["purpose"].size) < 0.03
    return table | {"purpose": np.where(is_new, "cryptocurrency", table["purpose"])}


def _lost_employment(table: Table, random: Random) -> Table:
    is_lost = random.random(table["months_employed"].size) < 0.2
    return table | {"months_employed": np.where(is_lost, np.nan, table["months_employed"])}


def _impossible_age(table: Table, random: Random) -> Table:
    age = table["age"].copy()
    age[random.integers(age.size, size=2)] = 200.0
    return table | {"age": age}


def _mixed_up_spending(table: Table, random: Random) -> Table:
    return table | {"monthly_spending": random.permutation(table["monthly_spending"])}


PURPOSES = ["car", "renovation", "furniture", "education", "other"]
CHANNELS = ["app", "web", "branch"]
REGIONS = ["north", "south", "east", "west", "coast", "lakes", "hills", "islands"]
FAULTS = (
    Fault("income arrives net, 15 % lower", frozenset({"income", PREDICTION}), _net_income),
    Fault("3 % of purposes are a new category", frozenset({"purpose"}), _new_purpose),
    Fault("20 % of months_employed are null", frozenset({"months_employed"}), _lost_employment),
    Fault("2 ages a window are 200", frozenset({"age"}), _impossible_age),
    Fault(
        "monthly_spending joined to the wrong rows",
        frozenset({"monthly_spending", ""}),
        _mixed_up_spending,
        "every signal by itself looks as before; only the half-space trees see signals together, and they rank single "
        "records that lie far out, which none of these does",
    ),
)
