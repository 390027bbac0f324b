"""What is said of a baseline: what single alerts can be made for, and why not."""

from __future__ import annotations

import numpy as np

from driftline.detectors.baselines.arming import described
from driftline.detectors.baselines.fit import fit
from driftline.detectors.plan import Plan, plan_from


def lines(rows: int, plan: Plan | None = None) -> dict[str, str]:
    rng = np.random.default_rng(rows)
    columns = {
        "x": rng.normal(size=rows).tolist(),
        "y": rng.normal(size=rows).tolist(),
        "flag": (rng.random(rows) < 0.01).astype(float).tolist(),
        "prediction": rng.random(rows).tolist(),
    }
    said = described(fit("m", "1", columns), plan or Plan(), 1_000)
    return dict(line.split(": ", 1) for line in said)


def test_a_small_baseline_tells_little_at_once_and_says_why() -> None:
    said = lines(400)
    assert said["half-space trees"] == "none: too few rows, or no numeric feature that varies"
    assert said["far out in two features at once"].startswith("not told")
    assert said["category"] == "told for no signal"
    assert said["null"].startswith("told for 4 signals, from 46 of 1000 records")  # (1000 / 1400) ** 46 < 1e-6 / 4


def test_a_large_one_tells_more_and_what_is_left_out_is_named() -> None:
    said = lines(10_000)
    assert said["null"].startswith("told for 4 signals, from 7 of 1000 records")
    assert said["range"].endswith("at the first value far beyond all tails for 3")
    assert said["far out in two features at once"] == "told, over 2 features"
    assert said["change points"].startswith("in 3 signals; not in flag, where one value")


def test_what_is_off_is_said_to_be_off() -> None:
    off = {name: {"enabled": False} for name in ("half_space_trees", "null", "joint_range", "adwin", "adwin_scale")}
    said = lines(5_000, plan_from({"detectors": off}))
    assert said["half-space trees"] == "none: off"
    assert said["null"] == "told for no signal"
    assert said["far out in two features at once"].startswith("not told: off")
    assert said["change points"].startswith("in 0 signals")
