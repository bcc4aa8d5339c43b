"""The table of a split: what programs and spreadsheets write is read as it was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer import DataError
from trainer.data.table import Table, read_table


def table(folder: Path, content: str | bytes) -> Table:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / "info.csv").write_bytes(data)
    return read_table(folder)


@pytest.mark.parametrize(
    "content",
    [
        "files,type\na.png,bag\nb.png,boot\n",
        "\ufefffiles;type\r\na.png;bag\r\nb.png;boot\r\n",
        "files\ttype\na.png\tbag\nb.png\tboot",
        "note,type,files\nx,bag,a.png\n,boot,b.png\n",
        'files, type\n"a.png", bag \nb.png,boot\n',
        "files,type\n\na.png,bag\n,\n\nb.png,boot\n,,,\n",
        "files,type\na.png,bag,extra\nb.png,boot,,\n",
    ],
)
def test_every_spelling_of_a_table_is_read(tmp_path: Path, content: str) -> None:
    """Separators, a byte-order mark, line ends, spaces, other columns, empty rows, extra cells."""
    found = table(tmp_path, content)
    assert (found.files, found.labels) == (("a.png", "b.png"), ("bag", "boot"))
    assert found.findings == ()


def test_cells_are_text(tmp_path: Path) -> None:
    """File names keep their zeros; NA, null and nan are labels; words are not numbers."""
    found = table(tmp_path, "files,type\n0012,NA\n1e3,null\n1.50,nan\nx,0x10\n")
    assert found.files == ("0012", "1e3", "1.50", "x")
    assert found.labels == ("NA", "null", "nan", "0x10")


def test_equal_numbers_are_one_label(tmp_path: Path) -> None:
    """`3`, `03`, `+3` and `3.0` name one class, `3.5` another."""
    found = table(tmp_path, "files,type\na,3\nb,03\nc,+3\nd,3.0\ne,3.5\n")
    assert found.labels == ("3", "3", "3", "3", "3.5")


def test_findings_name_the_line_that_a_row_begins_in(tmp_path: Path) -> None:
    """Blank lines and line breaks inside of quoted cells are counted."""
    content = 'files,type,note\na,1,"two\nlines"\n\n,2,\n../b,3,\n"c\n",,\nd,4,\n'
    found = table(tmp_path, content)
    path = tmp_path / "info.csv"
    assert found.files == ("a", "d")
    assert found.findings == (
        f"{path} line 5: file or type is empty",
        f"{path} line 6: '../b' is outside the split's folder",
        f"{path} line 7: file or type is empty",
    )


@pytest.mark.parametrize("name", ["..", "../a", "a/../b", "/a", "a\0b"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    """Two dots inside of a name are a name, two dots as a folder are not."""
    found = table(tmp_path, f"files,type\n{name},1\na..b/c..png,1\n")
    assert found.files == ("a..b/c..png",)
    assert len(found.findings) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"files,type\n\xe9.png,1\n", "save it as CSV in UTF-8"),
        (b'files,type\n"a.png,1\n', "cannot be read"),
        (b"files,type\n,\n\n", "lists no image"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    """Another encoding and a quote without its end are errors with the file's name."""
    with pytest.raises(DataError, match=rf"info\.csv {expected}|info\.csv .*{expected}"):
        table(tmp_path, content)
