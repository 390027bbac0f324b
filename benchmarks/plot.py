"""Charts as SVG, without a plotting library."""

from __future__ import annotations

from itertools import pairwise
from math import log
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from meter import Measured

WIDTH, LABELS, ROW = 720, 110, 34


def bars(found: Mapping[str, Sequence[Measured]]) -> str:
    """Draw each peer's median records per second as a bar and every round as a dot."""
    most = max(one.rate for measured in found.values() for one in measured)
    scale = (WIDTH - LABELS - 90) / most
    rows = []
    for place, (peer, measured) in enumerate(found.items()):
        top, rate = 8 + place * ROW, median(one.rate for one in measured)
        rows.append(f'<text x="{LABELS - 8}" y="{top + 17}" text-anchor="end">{peer}</text>')
        rows.append(f'<rect x="{LABELS}" y="{top}" width="{rate * scale:.1f}" height="24" fill="#4477aa"/>')
        rows += [
            f'<circle cx="{LABELS + one.rate * scale:.1f}" cy="{top + 12}" r="2.5" fill="#ee7733"/>' for one in measured
        ]
        right = LABELS + max(one.rate for one in measured) * scale + 8
        rows.append(f'<text x="{right:.1f}" y="{top + 17}">{rate:,.0f}/s</text>')
    return _svg(rows, 16 + len(found) * ROW, 14)


class Line(NamedTuple):
    """One small chart.

    Parameters
    ----------
    across, up
        What the axes show.
    points
        Ascending in x; x is drawn by its logarithm, y from 0.
    """

    across: str
    points: Sequence[tuple[float, float]]
    up: str


PANEL_WIDTH, PANEL_HEIGHT, MARGIN = WIDTH // 3, 200, 34


def lines(found: Sequence[Line]) -> str:
    """Draw small charts, three in a row."""
    shapes = []
    for place, line in enumerate(found):
        left, top = place % 3 * PANEL_WIDTH, place // 3 * PANEL_HEIGHT
        shapes += [f'<g transform="translate({left},{top})">', *_panel(line), "</g>"]
    return _svg(shapes, -(-len(found) // 3) * PANEL_HEIGHT, 11)


def _panel(line: Line) -> list[str]:
    first, last = log(line.points[0][0]), log(line.points[-1][0])
    most = max(y for _, y in line.points)
    across, up = PANEL_WIDTH - 2 * MARGIN, PANEL_HEIGHT - 2.4 * MARGIN
    bottom = PANEL_HEIGHT - 1.2 * MARGIN
    at = [(MARGIN + across * (log(x) - first) / (last - first), bottom - up * y / most) for x, y in line.points]
    shapes = [
        f'<text x="{MARGIN / 2}" y="14">{line.up}</text>',
        f'<text x="{PANEL_WIDTH / 2}" y="{PANEL_HEIGHT - 6}" text-anchor="middle">{line.across}</text>',
        f'<line x1="{MARGIN}" y1="{bottom}" x2="{MARGIN + across}" y2="{bottom}" stroke="#bbbbbb"/>',
    ]
    shapes += [
        f'<line x1="{a:.1f}" y1="{b:.1f}" x2="{c:.1f}" y2="{d:.1f}" stroke="#4477aa" stroke-width="2"/>'
        for (a, b), (c, d) in pairwise(at)
    ]
    for (x, y), (left, top) in zip(line.points, at, strict=True):
        shapes.append(f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="#ee7733"/>')
        shapes.append(f'<text x="{left:.1f}" y="{top - 7:.1f}" text-anchor="middle">{y:.3g}</text>')
        shapes.append(f'<text x="{left:.1f}" y="{bottom + 13:.1f}" text-anchor="middle">{x:,.0f}</text>')
    return shapes


def _svg(shapes: Sequence[str], height: int, font_size: int) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="{font_size}">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *shapes,
            "</svg>\n",
        ]
    )
