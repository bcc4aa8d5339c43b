"""Commands are read whole or refused with everything that is wrong with them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import BadCommand
from worker.messages.commands import (
    COMMANDS,
    Evaluate,
    ReloadCheckpoint,
    Rollback,
    StartTraining,
    Status,
    StopTraining,
    message_id,
    parse_command,
)

PLACE = "images-control-0-7"


def refusal(value: bytes | None) -> BadCommand:
    with pytest.raises(BadCommand) as caught:
        parse_command(value, default_id=PLACE)
    return caught.value


def command(name: str, **fields: object) -> bytes:
    return json.dumps({"command": name, **fields}).encode()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (command("start-training", id="a"), StartTraining(id="a")),
        (
            command("start-training", id="a", params={"num_epochs": 3}, deploy="never"),
            StartTraining(id="a", params={"num_epochs": 3}, deploy="never"),
        ),
        (command("stop-training", id="s", job="a"), StopTraining(id="s", job="a")),
        (command("reload-checkpoint", id="r", job="a"), ReloadCheckpoint(id="r", job="a")),
        (
            command("reload-checkpoint", id="r", checkpoint="a/checkpoints/epoch-00001.pt"),
            ReloadCheckpoint(id="r", checkpoint="a/checkpoints/epoch-00001.pt"),
        ),
        (command("rollback", id="r"), Rollback(id="r")),
        (
            command("evaluate", id="e", job="a", kind="train"),
            Evaluate(id="e", job="a", kind="train"),
        ),
        (command("status", id="s"), Status(id="s")),
    ],
)
def test_every_command_is_read(value: bytes, expected: object) -> None:
    """Each command with its fields becomes the object that stands for it."""
    assert parse_command(value, default_id=PLACE) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_survives_the_way_there_and_back(name: str) -> None:
    """What the worker itself sends is what the worker understands."""
    fields = {"stop-training": {"job": "a"}, "reload-checkpoint": {"job": "a"}}
    fields["evaluate"] = {"checkpoint": "a/checkpoints/best.pt"}
    sent = COMMANDS[name](id="x", **fields.get(name, {}))

    assert parse_command(sent.to_json(), default_id=PLACE) == sent


def test_a_command_without_an_id_has_the_id_of_its_place() -> None:
    """Its second delivery comes from the same place, and so has the same id."""
    place = message_id("images-control", 0, 7)

    assert parse_command(b'{"command":"status"}', default_id=place).id == "images-control-0-7"


def test_a_job_means_its_best_checkpoint() -> None:
    """Naming a job is short for the path of its best checkpoint."""
    assert ReloadCheckpoint(id="r", job="a").path == "a/checkpoints/best.pt"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (None, ["empty"]),
        (b"", ["empty"]),
        (b'{"command": ', ["not JSON"]),
        (b"\xff\xfe\x00", ["not JSON"]),
        (b"[1, 2]", ["[1,2]", "not a JSON object"]),
        (b"{}", ["command: missing", "start-training", "rollback"]),
        (command("start_training"), ['"start_training"', "did you mean start-training?"]),
        (command("statsu"), ["did you mean status?"]),
        (command("dance"), ['"dance"', "must be one of"]),
        (b'{"command": ["status"]}', ['["status"]', "is not known"]),
        (command("status", id=7), ["id: 7", "a text of letters"]),
        (command("status", id=None), ["id: null"]),
        (command("status", id=""), ['id: ""']),
        (command("status", id="a b"), ['id: "a b"']),
        (command("start-training", id="../a"), ['id: "../a"']),
        (command("start-training", id=".a"), ['id: ".a"']),
        (command("start-training", id="a\n"), ["id: "]),
        (command("start-training", id="x" * 101), ["at most 100"]),
        (command("start-training", params=[1]), ["params: [1]", "override the worker's defaults"]),
        (command("start-training", deploy="always"), ['deploy: "always"', '"never"']),
        (command("start-training", processes=0), ["processes: 0", "1 to 1024"]),
        (command("start-training", processes=True), ["processes: true"]),
        (command("start-training", param={}), ["param: unknown field", "did you mean params?"]),
        (command("stop-training"), ["job: missing", "which is its command's id"]),
        (command("stop-training", job="a/b"), ['job: "a/b"']),
        (command("reload-checkpoint"), ["either checkpoint", "or job"]),
        (command("reload-checkpoint", job="a", checkpoint="b"), ["not both"]),
        (command("reload-checkpoint", checkpoint=""), ['checkpoint: ""', "log directory"]),
        (command("evaluate", job="a", kind="dev"), ['kind: "dev"', '"train" or "test"']),
        (command("rollback", job="a"), ["job: unknown field", "allowed are id"]),
    ],
)
def test_a_bad_command_is_refused_with_what_would_be_right(
    value: bytes | None, named: list[str]
) -> None:
    """The refusal names the field, its value and what is allowed."""
    text = str(refusal(value))

    assert [word for word in named if word not in text] == [], text


def test_every_problem_is_listed_at_once() -> None:
    """Whoever corrects a command need not send it once for each mistake."""
    text = str(refusal(command("start-training", deploy=1, processes="two", parms={})))

    assert all(field in text for field in ("deploy: 1", 'processes: "two"', "parms: unknown"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (command("status", id="mine", nonsense=1), "mine"),
        (command("dance", id="mine"), "mine"),
        (command("status", id="not an id"), PLACE),
        (b"{", PLACE),
    ],
)
def test_a_refusal_carries_the_id_that_the_sender_knows(value: bytes, expected: str) -> None:
    """The command's own id when it can be read, else its place in the topic."""
    assert refusal(value).command_id == expected


def test_a_long_value_is_shown_in_part() -> None:
    """A rejection stays readable, whatever was sent."""
    assert len(str(refusal(b"x" * 1_000_000))) < 1000


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_break_the_reader(value: bytes) -> None:
    """Noise is refused, never an error of another kind."""
    refusal(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(
    st.sampled_from(["id", "job", "checkpoint", "params", "deploy", "processes", "kind", "odd"]),
    json_values,
)


@given(st.sampled_from(sorted(COMMANDS)), fields)
def test_no_fields_whatsoever_break_the_reader(name: str, content: dict[str, object]) -> None:
    """Any JSON in any field is either a command or refused."""
    with contextlib.suppress(BadCommand):
        assert parse_command(command(name, **content), default_id=PLACE).command == name


@pytest.mark.parametrize("topic", ["images-control", ".hidden", "t" * 249])
def test_a_place_is_an_id(topic: str) -> None:
    """Whatever the topic is called, the id made of it is one that commands may have."""
    place = message_id(topic, 0, 12345)

    assert parse_command(b'{"command":"start-training"}', default_id=place).id == place
