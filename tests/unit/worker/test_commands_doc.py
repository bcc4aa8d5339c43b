"""docs/commands.md shows what the worker understands and says."""

import json
import re
from pathlib import Path

import pytest

from worker.messages.commands import COMMANDS, parse_command

TEXT = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
EXAMPLES = [
    line
    for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
SHOWN_COMMANDS = [line for line in EXAMPLES if "command" in json.loads(line)]
SHOWN_EVENTS = [json.loads(line) for line in EXAMPLES if "event" in json.loads(line)]
EVENTS = {
    *("accepted", "rejected", "started", "resumed", "epoch", "checkpoint", "finished", "failed"),
    *("cancelled", "evaluated", "reloaded", "rolled-back", "reload-failed", "status"),
}


@pytest.mark.parametrize("example", SHOWN_COMMANDS)
def test_every_command_shown_is_understood(example: str) -> None:
    """An example can be sent as it stands."""
    assert parse_command(example.encode(), default_id="x").id != "x"


def test_every_command_and_event_is_shown() -> None:
    """Nothing that the worker understands or says is missing."""
    assert {json.loads(line)["command"] for line in SHOWN_COMMANDS} == set(COMMANDS)
    assert {event["event"] for event in SHOWN_EVENTS} == EVENTS


def test_every_event_shown_has_what_every_event_has() -> None:
    """The name, the time and the worker are in each."""
    assert all({"event", "timestamp", "worker"} <= event.keys() for event in SHOWN_EVENTS)
