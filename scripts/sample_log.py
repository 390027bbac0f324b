#!/usr/bin/env python3
"""Write a small training set and a prediction log that drifts after two thirds: what the README's commands work on."""

from pathlib import Path

import numpy as np
import orjson

N_TRAINING, N_LOG, START_S = 10_000, 12_000, 1_700_000_040
"""The log has 1000 predictions a minute from 14 November 2023 on, and starts with a minute."""


def customers(rng: np.random.Generator, n: int) -> dict[str, list[float | str]]:
    """Draw n customers and a model's view of them."""
    age = rng.gamma(9.0, 5.0, size=n).round()
    monthly = rng.lognormal(3.4, 0.4, size=n).round(2)
    plan = rng.choice(["free", "pro", "team"], size=n, p=[0.6, 0.3, 0.1])
    churn = 1 / (1 + np.exp(0.05 * (age - 45) + 0.02 * (monthly - 32) + rng.normal(size=n)))
    columns = {"age": age.tolist(), "monthly": monthly.tolist(), "plan": plan.tolist()}
    return columns | {"prediction": churn.round(4).tolist()}


def main() -> None:
    """Write both files."""
    rng = np.random.default_rng(0)
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    training = customers(rng, N_TRAINING)
    rows = [",".join(training), *(",".join(map(str, row)) for row in zip(*training.values(), strict=True))]
    (folder / "training.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    log = customers(rng, N_LOG)
    with (folder / "predictions.jsonl").open("wb") as file:
        for row in range(N_LOG):
            features = {name: log[name][row] for name in ("age", "monthly", "plan")}
            if row >= 2 * N_LOG // 3:
                features["monthly"] = float(features["monthly"]) * 1.15  # prices went up
            document = {
                "model": "churn",
                "version": "v1",
                "id": str(row),
                "timestamp": START_S + row * 0.06,
                "features": features,
                "prediction": log["prediction"][row],
            }
            file.write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))
    print(f"{folder}/training.csv: {N_TRAINING} rows; {folder}/predictions.jsonl: {N_LOG} predictions")


if __name__ == "__main__":
    main()
