"""The table of a split: which files there are, and which class each belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Table", "class_names", "natural_order", "read_table", "unknown_labels"]

FILES, TYPE = "files", "type"
NEEDED = f"the columns {FILES} and {TYPE}"
SEPARATORS = ",;\t"
"""Separators that spreadsheets write; the first line shows which it is."""
OUTSIDE = r"^/|(?:^|/)\.\.(?:/|\Z)|\0"
"""File names that lead out of the folder, or that no file can have."""
MOST_DIGITS = 4000
"""Longest number in a label: Python refuses to convert longer ones (by default)."""
MOST_SHOWN = 12
"""Class names in an error message."""


@dataclass(frozen=True)
class Table:
    """The content of an `info.csv`.

    Attributes:
        path: The file.
        files: Image file names, relative to the table's folder.
        labels: One label per file, numbers in their shortest form.
        findings: What is wrong with the rows that were left out.
    """

    path: Path
    files: tuple[str, ...]
    labels: tuple[str, ...]
    findings: tuple[str, ...] = ()


def read_table(folder: Path) -> Table:
    """Read `folder/info.csv`, as programs and spreadsheets write it.

    Cells are text, separated by commas, semicolons or tabs; the order of the columns does not
    matter, and further columns are ignored, as are empty rows. Rows that cannot be used are left
    out and reported in `findings`.

    Raises:
        DataError: The file is not there, is not such a table, or lists nothing.
    """
    path = folder / "info.csv"
    table = _read_csv(path)
    columns = [str(name).strip() for name in table.columns]
    missing = [name for name in (FILES, TYPE) if name not in columns]
    if missing:
        text = f"{path} lacks the column {' and '.join(missing)}; it has {', '.join(columns)}"
        raise DataError("bad data", [text])
    names, labels = (table.iloc[:, columns.index(name)] for name in (FILES, TYPE))
    labels = labels.str.strip()
    has_content = (table != "").any(axis=1)
    is_empty = has_content & (names.eq("") | labels.eq(""))
    is_outside = has_content & ~is_empty & names.str.contains(OUTSIDE)
    if not has_content.any():
        raise _lists_nothing(path)
    good = has_content & ~is_empty & ~is_outside
    shortest = {label: _shortest(label) for label in labels[good].unique()}
    problems = dict.fromkeys(names.index[is_empty], "file or type is empty")
    for row in names.index[is_outside]:
        problems[row] = f"{names[row]!r} is outside the split's folder"
    return Table(
        path,
        files=tuple(names[good]),
        labels=tuple(shortest[label] for label in labels[good]),
        findings=_findings(path, table, problems),
    )


def _read_csv(path: Path) -> pd.DataFrame:
    """Read all cells as text.

    Raises:
        DataError: The file is not there, cannot be read, or is empty.
    """
    import pandas as pd  # noqa: PLC0415 - takes half a second

    try:
        return pd.read_csv(
            path,
            sep=_separator(path),
            encoding="utf-8-sig",
            dtype=str,
            na_filter=False,  # NA and null are names like others
            skip_blank_lines=False,  # they count as lines
            index_col=False,
            usecols=lambda _: True,  # cells behind the last column are ignored
        )
    except FileNotFoundError as error:
        raise DataError("bad data", [f"{path} is not there; it needs {NEEDED}"]) from error
    except pd.errors.EmptyDataError:
        raise _lists_nothing(path) from None
    except UnicodeDecodeError as error:
        text = f"{path} cannot be read: {error}; save it as CSV in UTF-8"
        raise DataError("bad data", [text]) from error
    except (OSError, ValueError) as error:
        raise DataError("bad data", [f"{path} cannot be read: {str(error).strip()}"]) from error


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    return max(SEPARATORS, key=header.count)


def _lists_nothing(path: Path) -> DataError:
    return DataError("bad data", [f"{path} lists no image: the split is empty; it needs {NEEDED}"])


def _findings(path: Path, table: pd.DataFrame, problems: Mapping[int, str]) -> tuple[str, ...]:
    """Return a finding for each row with a problem, which names the line that the row begins in."""
    if not problems:
        return ()
    # a quoted cell may hold further lines
    further = table.apply(lambda column: column.str.count("\n")).sum(axis=1).cumsum()
    first = 2 + sum(name.count("\n") for name in table.columns)
    lines = first + table.index.to_series() + further.shift(fill_value=0)
    return tuple(f"{path} line {lines[row]}: {problems[row]}" for row in sorted(problems))


def _shortest(label: str) -> str:
    """Return a label in its shortest form: `3`, `03` and `3.0` are the same number."""
    if re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", label):
        return str(int(float(label)))
    return label


def natural_order(label: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which numbers in labels count as numbers: `9` before `10`."""
    if re.fullmatch(rf"-?\d{{1,{MOST_DIGITS}}}", label):
        return ((0, int(label), ""),)
    return tuple(
        (0, int(part), "") if part.isdecimal() and len(part) <= MOST_DIGITS else (1, 0, part)
        for part in re.split(r"(\d+)", label)
        if part
    )


def class_names(table: Table, n_classes: int) -> list[str]:
    """Return the class names of a training table by index, in natural order.

    Labels that are all numbers from 0 below `n_classes` are their own indices, even if some of them
    do not occur.

    Raises:
        DataError: There are more or fewer classes than `n_classes`.
    """
    present = sorted(set(table.labels), key=natural_order)
    numbers = [str(index) for index in range(n_classes)]
    if set(present) <= set(numbers):
        return numbers
    if len(present) == n_classes:
        return present
    if all(re.fullmatch(r"-?\d+", label) for label in present):
        raise DataError("bad data", unknown_labels(table, numbers))
    text = f"{table.path} has {len(present)} classes ({_shown(present)}) but n_classes is"
    remedy = f"set n_classes={len(present)} or correct the labels"
    raise DataError("bad data", [f"{text} {n_classes}; {remedy}"])


def unknown_labels(table: Table, names: Sequence[str]) -> list[str]:
    """Return a finding for every row whose label is not among the class names."""
    known = set(names)
    return [
        f"{table.path}: {name} has the unknown label {label!r}; classes: {_shown(names)}"
        for name, label in zip(table.files, table.labels, strict=True)
        if label not in known
    ]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")
