"""What of a baseline's records single alerts can be made for under a plan, what not, and why; in words."""

from collections.abc import Iterator

import numpy as np

from driftline.detectors.baselines.outlier_fit import LEAST_FOR_JOINT, LEAST_ROWS
from driftline.detectors.documents.baseline import Baseline
from driftline.detectors.layout.constraints import CONSTRAINTS, occurrences_needed
from driftline.detectors.layout.vector_layout import Layout
from driftline.detectors.plan import Plan


def described(baseline: Baseline, plan: Plan, records: int) -> Iterator[str]:
    """Lines about constraints, half-space trees and change points.

    Parameters
    ----------
    baseline, plan
        Of the model.
    records
        Records of a window and partition among which the occurrences needed are told.
    """
    layout = Layout.of(baseline, plan)
    for place, constraint in enumerate(CONSTRAINTS):
        yield _constraint(layout, place, constraint, records)
    yield _trees(layout)
    yield _joint(layout)
    fed = {each.signal for each in layout.adwins}
    left_out = [name for name in layout.numeric if name not in fed]
    why = f"; not in {_some(left_out)}, where one value or none has most of the rows, or it is off" if left_out else ""
    yield f"change points: in {len(fed)} signals{why}"


def _constraint(layout: Layout, place: int, constraint: str, records: int) -> str:
    held = layout.constraints
    armed = held.armed[constraint]
    if not armed.any():
        return f"{constraint}: told for no signal"
    rows = held.rows[place][armed]
    needed = occurrences_needed(int(rows.min()), records, float(held.needed[place]))
    text = f"{constraint}: told for {armed.sum()} signals, from {needed} of {records} records in a window on"
    if constraint != "range":
        return text
    least, most = held.certain
    certain = int((np.isfinite(least) | np.isfinite(most)).sum())
    return f"{text}, and at the first value far beyond all tails for {certain}"


def _trees(layout: Layout) -> str:
    profile, rule = layout.baseline.outliers, layout.rule("half_space_trees")
    if profile is None or not rule.enabled:
        return "half-space trees: none" + (
            ": too few rows, or no numeric feature that varies" if rule.enabled else ": off"
        )
    about = f"half-space trees: over {len(profile.features)} features; single records"
    if np.isfinite(layout.alerting_score):
        about += f" from a score of {layout.alerting_score:.3f} on"
    elif profile.score_tail is None:
        about += f" not told: a tail takes {LEAST_ROWS} rows, and enough of them that differ"
    else:
        about += f" not told: no score is so rare as {rule.threshold:g}"
    if profile.trimmed:
        share = profile.trimmed / profile.scored
        about += (
            f"; {profile.trimmed} rows of the baseline ({share:.1%}) lie apart from all others, taken for anomalies"
        )
    return about


def _joint(layout: Layout) -> str:
    if layout.joint is not None:
        return f"far out in two features at once: told, over {len(layout.joint_rows)} features"
    return (
        f"far out in two features at once: not told: off, or fewer than {LEAST_FOR_JOINT} rows, "
        "or fewer than two features of many values"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
