"""The result of a benchmark: contenders with their samples, ratios with their targets.

Each benchmark is a file of this folder with a function `measure(bench: Benchmark) -> None`; the
first line of its docstring is its question. It measures all contenders in turns, in one run, and
adds their samples to the result.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One contender's samples, all in one unit (`images/s`, `ms`, ...)."""

    contender: str
    unit: str
    samples: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def as_json(self) -> dict[str, Any]:
        return {
            "contender": self.contender,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
        }


@dataclass(frozen=True)
class Ratio:
    """One figure divided by another, with its target."""

    value: float
    target: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.target if self.at_most else self.value >= self.target

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "target": self.target, "met": self.met}


@dataclass
class Benchmark:
    """The result of one benchmark, filled in while it runs."""

    name: str
    rows: list[Row] = field(default_factory=list)
    ratios: dict[str, Ratio] = field(default_factory=dict)

    def row(self, contender: str, unit: str, samples: Iterable[float]) -> Row:
        """Add a contender's samples; its row has their median and range.

        Raises:
            ValueError: when there is no sample.
        """
        row = Row(contender, unit, [float(sample) for sample in samples])
        if not row.samples:
            raise ValueError(f"{self.name}: {contender} has no samples")
        self.rows.append(row)
        return row

    def ratio(self, name: str, value: float, target: float, *, at_most: bool = False) -> Ratio:
        """Add a ratio, named "A over B"; it is met if it is at least (or at most) its target."""
        self.ratios[name] = Ratio(float(value), float(target), at_most)
        return self.ratios[name]

    def as_json(self) -> dict[str, Any]:
        """Return the result in the form that every benchmark shares."""
        return {
            "benchmark": self.name,
            "rows": [row.as_json() for row in self.rows],
            "ratios": {name: ratio.as_json() for name, ratio in self.ratios.items()},
        }

    def table(self) -> str:
        """Return the rows with medians and ranges, then the ratios with their targets."""
        rows = [("contender", "median", "range", "unit")]
        rows += [
            (
                row.contender,
                figure(row.median),
                f"{figure(min(row.samples))} .. {figure(max(row.samples))}",
                row.unit,
            )
            for row in self.rows
        ]
        lines = [self.name, "", *aligned(rows)]
        if self.ratios:
            ratios = [("ratio", "value", "target", "")]
            ratios += [
                (
                    name,
                    f"{ratio.value:.3g}",
                    f"{'<=' if ratio.at_most else '>='} {ratio.target:g}",
                    "met" if ratio.met else "MISSED",
                )
                for name, ratio in self.ratios.items()
            ]
            lines += ["", *aligned(ratios)]
        return "\n".join(lines)


def figure(value: float) -> str:
    """Return a figure with three significant digits; from 1000 on as a whole number."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
