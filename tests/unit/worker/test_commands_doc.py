"""docs/commands.md shows what the worker understands and says."""

import json

import pytest

from tests.documents import Document
from worker.messages.commands import COMMANDS, parse_command

SHOWN = Document("docs/commands.md").json_objects()
SHOWN_COMMANDS = [example for example in SHOWN if "command" in example]
SHOWN_EVENTS = [example for example in SHOWN if "event" in example]
EVENTS = {
    *("accepted", "rejected", "started", "resumed", "epoch", "checkpoint", "finished", "failed"),
    *("cancelled", "evaluated", "reloaded", "rolled-back", "reload-failed", "status"),
}


@pytest.mark.parametrize("example", SHOWN_COMMANDS, ids=lambda example: example["id"])
def test_every_command_shown_is_understood(example: dict[str, object]) -> None:
    """An example can be sent as it stands."""
    assert parse_command(json.dumps(example).encode(), default_id="x").id == example["id"]


def test_every_command_and_event_is_shown() -> None:
    """Nothing that the worker understands or says is missing."""
    assert {example["command"] for example in SHOWN_COMMANDS} == set(COMMANDS)
    assert {event["event"] for event in SHOWN_EVENTS} == EVENTS


def test_every_event_shown_has_what_every_event_has() -> None:
    """The name, the time and the worker are in each."""
    assert all({"event", "timestamp", "worker"} <= event.keys() for event in SHOWN_EVENTS)
