"""A bar chart as SVG, without a plotting library."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

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
    height = 16 + len(found) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="14">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *rows,
            "</svg>\n",
        ]
    )
