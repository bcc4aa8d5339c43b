"""What can be set on a worker, read once at its start from the environment and a params file.

A value is taken from the first place that has it: an environment variable, the file that
`DARKROOM_PARAMS` names, the default. Published keys (`KAFKA_HOST`, `n_classes`) keep their
names in both; the worker's own settings are `DARKROOM_<NAME>` in the environment and
`name` in the file's `[worker]` table.
"""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import trainer
from worker.bridge.settings import BridgeSettings
from worker.errors import SettingsError
from worker.images.settings import ServingSettings
from worker.kafka.settings import KafkaSettings
from worker.runtime.settings import RuntimeSettings
from worker.section import Section
from worker.training.settings import TrainingSettings

__all__ = ["Settings", "load_settings", "variables"]

PREFIX = "DARKROOM_"
SECRET = re.compile("PASSWORD|SECRET|TOKEN")
"""Names of variables whose values are never shown."""
PARAMS_FILE = "DARKROOM_PARAMS"
NOT_SETTINGS = {PARAMS_FILE, "DARKROOM_PYTHON", "DARKROOM_SHARED_DATA", "DARKROOM_TORCH_INDEX"}
NOT_SETTINGS_PREFIXES = ("DARKROOM_TEST_", "DARKROOM_BENCH_")
"""Variables that the scripts, tests and benchmarks read; a worker started beside them ignores
them."""


class Settings(BaseModel):
    """A worker's settings, by room."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    runtime: RuntimeSettings = Field(default_factory=RuntimeSettings)
    serving: ServingSettings = Field(default_factory=ServingSettings)
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    bridge: BridgeSettings = Field(default_factory=BridgeSettings)


SECTIONS: Mapping[str, type[Section]] = {
    "kafka": KafkaSettings,
    "runtime": RuntimeSettings,
    "serving": ServingSettings,
    "training": TrainingSettings,
    "bridge": BridgeSettings,
}


class Value(NamedTuple):
    """A value as it was set."""

    value: Any
    source: str
    """The params file's name, or "environment"."""


Found = Mapping[str, Value]
"""What was set, by the name of the variable or param."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and the file that it names.

    Raises:
        SettingsError: lists every setting that is wrong, where it came from and what is allowed.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    found = {**_from_file(environ.get(PARAMS_FILE), problems), **_from_environment(environ)}
    problems += _unknown(found)
    params = _params(found, problems)
    sections: dict[str, Any] = {}
    for room, section in SECTIONS.items():
        values = {name: found[name].value for name in section.variables() if name in found}
        if room == "training":
            values["params"] = params
        try:
            sections[room] = section.model_validate(values)
        except ValidationError as error:
            problems += _problems(error, found)
    if problems:
        raise SettingsError("the worker cannot start:\n  " + "\n  ".join(problems))
    return Settings(**sections)


def variables() -> frozenset[str]:
    """Return the names of all variables of the worker's own."""
    return frozenset(name for section in SECTIONS.values() for name in section.variables())


def _from_file(name: str | None, problems: list[str]) -> Found:
    """Return the params file's settings, those of its `[worker]` table with the prefix on."""
    if not name:
        return {}
    try:
        content = trainer.read_params_file(name)
    except trainer.ParamsError as error:
        problems.append(f"{PARAMS_FILE}: {'; '.join(error.findings)}")
        return {}
    worker = content.pop("worker", {})
    if not isinstance(worker, dict):
        problems.append(f"{PARAMS_FILE}: {name}: `worker` has to be a table")
        return {}
    values = content | {PREFIX + key.upper(): value for key, value in worker.items()}
    return {key: Value(value, name) for key, value in values.items()}


def _from_environment(environ: Mapping[str, str]) -> Found:
    ours, theirs = variables(), set(trainer.Params.model_fields)
    return {
        name: Value(trainer.parse_param(text) if name in theirs - ours else text, "environment")
        for name, text in environ.items()
        if name in ours | theirs or (name.startswith(PREFIX) and not _is_not_ours(name))
    }


def _is_not_ours(name: str) -> bool:
    return name in NOT_SETTINGS or name.startswith(NOT_SETTINGS_PREFIXES)


def _unknown(found: Found) -> Iterator[str]:
    known = variables()
    for name in found:
        if name.startswith(PREFIX) and name not in known:
            hint = trainer.did_you_mean(name, known)
            yield f"{name} ({found[name].source}): no such setting{hint}"


def _params(found: Found, problems: list[str]) -> Mapping[str, Any]:
    """Return what is set of the trainer's params, the defaults of the worker's jobs."""
    ours = variables()
    params = {
        name: one.value
        for name, one in found.items()
        if name not in ours and not name.startswith(PREFIX)
    }
    if params:
        try:
            trainer.Params.validate_all(params)
        except trainer.ParamsError as error:
            problems.append(str(error))
    return params


def _problems(error: ValidationError, found: Found) -> Iterator[str]:
    """Put what pydantic found in words, but for the names that derive from a wrong one."""
    for detail in error.errors():
        message = str(detail["msg"]).removeprefix("Value error, ")
        if not detail["loc"]:
            yield message
        elif (name := str(detail["loc"][0])) in found:
            place = ".".join([f"{name} ({found[name].source})", *map(str, detail["loc"][1:])])
            value = "***" if SECRET.search(name) else repr(detail["input"])
            yield f"{place}: {value}: {message}"
