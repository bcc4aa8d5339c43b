"""Line charts as SVG: any browser draws them, and no drawing library is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeAlias

__all__ = ["Point", "line_chart"]

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 30, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
GRID_LINES = 5

Point: TypeAlias = tuple[float, float]


def line_chart(title: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return a chart of named lines over a common x axis, as one `<svg>` element.

    Args:
        title: Shown above.
        lines: Points `(x, y)` by name, in the order of x; values that are not finite are left out.

    Returns:
        The element, its texts escaped; an empty text when there is no point.
    """
    finite = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()
    }
    points = [point for line in finite.values() for point in line]
    if not points:
        return ""
    plane = _Plane(points)
    drawn = [
        _line(plane, line, COLOURS[index % len(COLOURS)])
        for index, line in enumerate(finite.values())
    ]
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>',
            *plane.grid(),
            *drawn,
            *_legend(finite),
            "</svg>",
        ]
    )


class _Plane:
    """The mapping of the data's points to pixels of the drawing."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = zip(*points, strict=True)
        self._x, self._y = _range(xs), _range(ys)

    def at(self, point: Point) -> tuple[float, float]:
        """Return the pixel position of a point."""
        (left, right), (low, high) = self._x, self._y
        across = (point[0] - left) / (right - left)
        up = (point[1] - low) / (high - low)
        return (
            LEFT + across * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM),
        )

    def grid(self) -> list[str]:
        """Return horizontal lines with their values, and the ends of the x axis."""
        (left, right), (low, high) = self._x, self._y
        drawn = []
        for index in range(GRID_LINES):
            value = low + (high - low) * index / (GRID_LINES - 1)
            y = self.at((left, value))[1]
            drawn += [
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>',
                f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(value)}</text>',
            ]
        below = HEIGHT - BOTTOM + 14
        return [
            *drawn,
            f'<text x="{LEFT}" y="{below}">{left:g}</text>',
            f'<text x="{WIDTH - RIGHT}" y="{below}" text-anchor="end">{right:g}</text>',
        ]


def _number(value: float) -> str:
    """Return a value as text that fits left of the grid."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _range(values: Sequence[float]) -> Point:
    """Return the lowest and the highest value, or a range around them when all are equal."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _line(plane: _Plane, points: Sequence[Point], colour: str) -> str:
    places = [plane.at(point) for point in points]
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" fill="{colour}"/>'
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{text}" stroke="{colour}"/>'


def _legend(lines: Mapping[str, Sequence[Point]]) -> list[str]:
    return [
        f'<text x="{LEFT + index * 96}" y="{HEIGHT - 8}" '
        f'fill="{COLOURS[index % len(COLOURS)]}">{escape(name)}</text>'
        for index, name in enumerate(lines)
    ]
