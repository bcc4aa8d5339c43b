"""Params from files and from words."""

from pathlib import Path
from typing import Any

import pytest

from trainer import ParamsError, parse_param, read_params_file
from trainer.params.files import read_params


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("params.toml", "batch_size = 3\n[optim_kwargs]\nmomentum = 0.9\n"),
        ("params.json", '{"batch_size": 3, "optim_kwargs": {"momentum": 0.9}}'),
        ("params.JSON", '{"batch_size": 3, "optim_kwargs": {"momentum": 0.9}}'),
        ("params", '\n{"batch_size": 3, "optim_kwargs": {"momentum": 0.9}}'),
        ("params.conf", "batch_size = 3\noptim_kwargs.momentum = 0.9\n"),
    ],
)
def test_toml_and_json_files_are_read(tmp_path: Path, name: str, text: str) -> None:
    """The ending decides; without a known one, a brace at the beginning means JSON."""
    file = tmp_path / name
    file.write_text(text)
    assert read_params_file(file) == {"batch_size": 3, "optim_kwargs": {"momentum": 0.9}}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.toml", None, "cannot be read: No such file"),
        ("bad.toml", b"batch_size =", "cannot be read as TOML"),
        ("bad.json", b"batch_size = 3", "cannot be read as JSON"),
        ("bad.txt", b"\xff", "cannot be read as UTF-8 text"),
        ("list.json", b"[3]", "must hold a table of keys and values"),
        ("params.yaml", b"batch_size: 3", "is YAML; write the params as TOML or JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    """The error names the file and what is wrong with it."""
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        read_params_file(file)
    (finding,) = caught.value.findings
    assert finding.startswith(f"{file} {expected}")


def test_the_workers_table_is_left_out(tmp_path: Path) -> None:
    """A worker and the command line can share a file."""
    file = tmp_path / "params.toml"
    file.write_text("batch_size = 3\n[worker]\npartitions = 4\n")
    assert read_params(file) == ({"batch_size": 3}, {"batch_size": str(file)})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("[1, 2]", [1, 2]),
        ("true", True),
        ("True", True),
        ("None", None),
        ("cpu", "cpu"),
        ("", ""),
    ],
)
def test_a_value_is_json_or_text(text: str, value: Any) -> None:
    """JSON where it is JSON, Python's constants, else the text itself."""
    assert parse_param(text) == value


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000])
def test_a_value_beyond_all_reason_is_refused(text: str) -> None:
    """Thousands of digits or brackets are a ValueError, not a crash."""
    with pytest.raises(ValueError, match=r"digits|nested"):
        parse_param(text)
