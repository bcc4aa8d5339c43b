"""What the README says of settings, messages and other files is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.documents import README
from worker.messages.commands import COMMANDS, parse_command
from worker.settings import Settings

ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| (.*?) \| .*\|$", flags=re.MULTILINE)


def settings_table() -> dict[str, str]:
    """Return the variables that the README lists, with the default that it gives."""
    text = README.text.partition("## Settings")[2].partition("\n## ")[0]
    return {
        name: default.strip("`")
        for names, default in ROW.findall(text)
        for name in re.findall(r"`(\w+)`", names)
    }


def defaults() -> Iterator[tuple[str, Any]]:
    """Yield each variable that a worker reads, with its default."""
    for section in dict(Settings()).values():
        for name, field in type(section).model_fields.items():
            if field.alias is not None:
                yield field.alias, getattr(section, name)


def test_every_setting_is_listed() -> None:
    """The table has every setting of the worker, and no other."""
    assert set(settings_table()) == {name for name, _ in defaults()}


@pytest.mark.parametrize(("name", "default"), settings_table().items(), ids=settings_table())
def test_defaults_are_as_listed(name: str, default: str) -> None:
    """The default in the table is the one in the code."""
    value = dict(defaults())[name]
    depends_on_the_machine = default in {"half the cores", "all cores"}

    assert depends_on_the_machine or default == ("none" if value is None else str(value))


def test_commands_are_understood() -> None:
    """Every command that exists is shown, and what is shown is a command."""
    lines = README.block("json", "start-training").splitlines()
    shown = {parse_command(line.encode(), default_id="none").command for line in lines}

    assert shown == set(COMMANDS)


def test_prediction_has_all_fields() -> None:
    """The prediction that is shown has the fields of a prediction."""
    shown = json.loads(README.block("json", "top_k"))

    assert set(shown) == {
        *("id", "label", "index", "confidence", "top_k", "model", "source", "latency_ms")
    }
