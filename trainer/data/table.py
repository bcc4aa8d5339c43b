"""The table of a split: which files there are, and which class each belongs to."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainer.errors import DataError

COLUMNS = ("files", "type")
MOST_DIGITS = 4000
"""Of a number in a label: Python reads no longer ones (its default), and nobody writes them."""


@dataclass(frozen=True)
class Table:
    """`info.csv`, read.

    Attributes:
        path: The file.
        files: Image file names, relative to the table's folder.
        labels: A label each, numbers in their shortest form.
        findings: What is wrong with the rows that were left out.
    """

    path: Path
    files: tuple[str, ...]
    labels: tuple[str, ...]
    findings: tuple[str, ...] = ()


def read_table(folder: Path) -> Table:
    """Read `folder/info.csv`; rows that cannot be used are left out and told in `findings`.

    Raises:
        DataError: It is not there, is no such table, or lists nothing.
    """
    path = folder / "info.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            rows = list(reader)
    except FileNotFoundError as error:
        text = f"{path} is not there; it needs the columns {' and '.join(COLUMNS)}"
        raise DataError("bad data", [text]) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("bad data", [f"{path} cannot be read: {error}"]) from error
    if not rows:
        raise DataError("bad data", [f"{path} lists no image: the split is empty"])
    missing = [column for column in COLUMNS if column not in rows[0]]
    if missing:
        there = ", ".join(str(column) for column in rows[0])
        text = f"{path} lacks the column {' and '.join(missing)}; it has {there}"
        raise DataError("bad data", [text])
    wrong = [_wrong(row) for row in rows]
    good = [row for row, why in zip(rows, wrong, strict=True) if not why]
    return Table(
        path,
        tuple(row["files"] for row in good),
        tuple(_label(row["type"]) for row in good),
        tuple(f"{path} line {line}: {why}" for line, why in enumerate(wrong, 2) if why),
    )


def _wrong(row: dict[str, str]) -> str | None:
    name, label = row["files"], row["type"]
    if not name or not label or not label.strip():
        return "file or type is empty"
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
        return f"{name!r} is outside the split's folder"
    return None


def _label(text: str) -> str:
    """Return a label in its shortest form: `3`, `03` and `3.0` are the same number."""
    text = text.strip()
    if re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text):
        return str(int(float(text)))
    return text


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
    """Return the class names of a training table in natural order, one an index.

    Labels that are all numbers from 0 below `n_classes` are their own indices, also when some of
    them do not occur.

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
    shown = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
    text = f"{table.path} has {len(present)} classes ({shown}) but n_classes is {n_classes}"
    raise DataError("bad data", [f"{text}; set n_classes={len(present)} or mend the labels"])


def unknown_labels(table: Table, names: Sequence[str]) -> list[str]:
    """Return a finding for every row whose label is none of the class names."""
    known = set(names)
    allowed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return [
        f"{table.path}: {name} has the label {label!r}, which is no class; classes: {allowed}"
        for name, label in zip(table.files, table.labels, strict=True)
        if label not in known
    ]
