"""Commands as they travel on the control topic: JSON in, checked and typed objects out.

Nothing outside this file sees an unchecked command. A message that is not a command becomes a
`BadCommand` that names the field, its value, and what would be right.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from trainer import did_you_mean
from worker.errors import BadCommand

__all__ = [
    "COMMANDS",
    "Command",
    "Evaluate",
    "ReloadCheckpoint",
    "Rollback",
    "StartTraining",
    "Status",
    "StopTraining",
    "message_id",
    "parse_command",
]

MAX_JOB_NAME = 100
MAX_ID = 110  # the name of a job and what the worker appends to it, as in `<job>-deploy`
MAX_SHOWN = 100
_NAME = r"^[A-Za-z0-9_\-][A-Za-z0-9_.\-]*$"

Id = Annotated[
    str,
    Field(
        pattern=_NAME,
        max_length=MAX_ID,
        description="a text of letters, digits and `-_.`, not starting with a dot, "
        f"of at most {MAX_ID} characters",
    ),
]
JobName = Annotated[
    str,
    Field(
        pattern=_NAME,
        max_length=MAX_JOB_NAME,
        description="the name of a job, which is its command's id: letters, digits and `-_.`, "
        f"not starting with a dot, at most {MAX_JOB_NAME} characters",
    ),
]
CheckpointPath = Annotated[str, Field(min_length=1, max_length=1000)]


class _Command(BaseModel):
    """What every command has: its name and its id."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Id

    def to_json(self) -> bytes:
        """Return the command as bytes for the control topic."""
        return orjson.dumps(self.model_dump(exclude_none=True))


class StartTraining(_Command):
    """Train a classifier; the job has the name of the command's id."""

    command: Literal["start-training"] = "start-training"
    id: JobName
    params: dict[str, Any] = Field(
        default={},
        description="an object with params of the trainer that override the worker's defaults",
    )
    deploy: Literal["best", "never"] = Field(
        default="best",
        description='"best" (serve the best checkpoint when the job has finished) or "never"',
    )
    processes: int = Field(default=1, ge=1, le=1024, description="a whole number from 1 to 1024")


class StopTraining(_Command):
    """Stop a job, which saves a checkpoint and ends as cancelled."""

    command: Literal["stop-training"] = "stop-training"
    job: JobName


class _CheckpointCommand(_Command):
    """A command about one checkpoint, given by its path or as the best of a job."""

    job: JobName | None = Field(
        default=None, description="the name of a job, meaning its best checkpoint"
    )
    checkpoint: CheckpointPath | None = Field(
        default=None,
        description='a path relative to the log directory such as "<job>/checkpoints/best.pt"',
    )

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.job is None) == (self.checkpoint is None):
            raise PydanticCustomError(
                "one_of_two",
                "give either checkpoint (a path relative to the log directory) "
                "or job (meaning its best), and not both",
            )
        return self

    @property
    def path(self) -> str:
        """The checkpoint's path relative to the log directory (not yet checked to stay inside)."""
        return self.checkpoint or f"{self.job}/checkpoints/best.pt"


class ReloadCheckpoint(_CheckpointCommand):
    """Serve another checkpoint, in every worker."""

    command: Literal["reload-checkpoint"] = "reload-checkpoint"
    force: bool = Field(
        default=False,
        description="true or false: also a checkpoint with other classes or another input",
    )


class Rollback(_Command):
    """Serve the checkpoint that was served before, in every worker."""

    command: Literal["rollback"] = "rollback"


class Evaluate(_CheckpointCommand):
    """Measure a checkpoint on a split of the data, in one worker."""

    command: Literal["evaluate"] = "evaluate"
    id: JobName
    kind: Literal["train", "test"] = Field(
        default="test", description='"train" or "test", the split to measure on'
    )


class Status(_Command):
    """Ask every worker what it serves and trains."""

    command: Literal["status"] = "status"


Command = StartTraining | StopTraining | ReloadCheckpoint | Rollback | Evaluate | Status

COMMANDS: Mapping[str, type[Command]] = {
    "start-training": StartTraining,
    "stop-training": StopTraining,
    "reload-checkpoint": ReloadCheckpoint,
    "rollback": Rollback,
    "evaluate": Evaluate,
    "status": Status,
}


def message_id(topic: str, partition: int, offset: int) -> str:
    """Return the id of a command that carries none: its place, which a second delivery shares."""
    return f"{topic}-{partition}-{offset}"[-MAX_JOB_NAME:].lstrip(".")


def parse_command(value: bytes | None, *, default_id: str) -> Command:
    """Read and check one command.

    Args:
        value: The message's value: a JSON object.
        default_id: The id for a command without one (see `message_id`).

    Raises:
        BadCommand: With every problem listed. Its `command_id` is the command's own id when that
            could be read, else `default_id`.
    """
    fields = {"id": default_id} | _read_object(value, default_id)
    command_id = fields["id"] if _is_id(fields["id"]) else default_id
    model = COMMANDS[_command_name(fields, command_id)]
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(_explain(problem, model) for problem in error.errors())
        raise BadCommand(problems, command_id=command_id) from None


def _read_object(value: bytes | None, default_id: str) -> dict[str, Any]:
    example = 'send an object such as {"command": "status", "id": "s1"}'
    if not value:
        raise BadCommand(f"the message is empty; {example}", command_id=default_id)
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        shown = _show(value.decode(errors="replace"))
        raise BadCommand(
            f"{shown} is not JSON ({error}); {example}", command_id=default_id
        ) from None
    if not isinstance(fields, dict):
        raise BadCommand(f"{_show(fields)} is not a JSON object; {example}", command_id=default_id)
    return fields


def _command_name(fields: dict[str, Any], command_id: str) -> str:
    allowed = ", ".join(COMMANDS)
    if "command" not in fields:
        raise BadCommand(f"command: missing; it must be one of {allowed}", command_id=command_id)
    name = fields["command"]
    if isinstance(name, str) and name in COMMANDS:
        return name
    hint = did_you_mean(name, COMMANDS)
    raise BadCommand(
        f"command: {_show(name)} is not known; it must be one of {allowed}{hint}",
        command_id=command_id,
    )


def _explain(problem: ErrorDetails, model: type[_Command]) -> str:
    """Return one of pydantic's findings as field, value, and what would be right."""
    if not problem["loc"]:
        return problem["msg"]
    field = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        known = [name for name in model.model_fields if name != "command"]
        hint = did_you_mean(field, known)
        return f"{field}: unknown field; allowed are {', '.join(known)}{hint}"
    right = _description(model, field)
    if problem["type"] == "missing":
        return f"{field}: missing; it must be {right}"
    return f"{field}: {_show(problem['input'])} is wrong; it must be {right}"


def _description(model: type[_Command], field: str) -> str:
    return model.model_fields[field].description or "as documented"


def _is_id(value: object) -> bool:
    return (
        isinstance(value, str) and len(value) <= MAX_ID and re.fullmatch(_NAME, value) is not None
    )


def _show(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
