"""What can be set on a worker, read once at its start from the environment and a params file.

A value is taken from the first place that has it: an environment variable, the file that
`DARKROOM_PARAMS` names, the default. Published keys (`KAFKA_HOST`, `n_classes`) keep their
names in both; the worker's own settings are `DARKROOM_<NAME>` in the environment and
`name` in the file's `[worker]` table.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

import trainer
from worker.bridge.routes import Route, default_routes
from worker.errors import SettingsError
from worker.kafka.topics import Topics

__all__ = ["EMBEDDED", "Settings", "load_settings"]

EMBEDDED = "embedded"
"""The value of `KAFKA_HOST` that stands for the broker inside the worker."""

PUBLISHED = {
    "GOOGLE_APPLICATION_CREDENTIALS": "google_application_credentials",
    "KAFKA_HOST": "kafka_host",
    "KAFKA_TOPIC": "kafka_topic",
    "PUB_SUB_PROJECT": "pub_sub_project",
    "PUB_SUB_SUBSCRIPTION": "pub_sub_subscription",
    "PUB_SUB_TOPIC": "pub_sub_topic",
    "TIMEOUT": "timeout_s",
}
PREFIX = "DARKROOM_"
PARAMS_FILE = "DARKROOM_PARAMS"
NOT_SETTINGS = {PARAMS_FILE, "DARKROOM_PYTHON", "DARKROOM_SHARED_DATA"}
"""Variables that the scripts and the tests read; a worker started beside them ignores them."""

KAFKA_PORT = 9092


def _with_port(host: str) -> str:
    """Complete a comma-separated list of brokers with Kafka's port where none is given."""
    if host == EMBEDDED:
        return host
    brokers = [broker.strip() for broker in str(host).split(",")]
    if not all(brokers):
        raise ValueError('has an empty broker in it; write "host:port,host:port"')
    return ",".join(broker if _has_port(broker) else f"{broker}:{KAFKA_PORT}" for broker in brokers)


def _has_port(broker: str) -> bool:
    host, colon, port = broker.rpartition(":")
    if not colon or broker.endswith("]"):
        return False
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"has no valid port in {broker!r}; write host:port, port 1 to 65535")
    return True


def _from_json(value: Any) -> Any:
    """Read what an environment variable can only give as text."""
    return json.loads(value) if isinstance(value, str) else value


TopicName = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]


class Settings(BaseModel):
    """A worker's settings; what only concerns training is kept apart in `training`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_host: Annotated[str, BeforeValidator(_with_port)] = EMBEDDED
    kafka_topic: TopicName = "images"
    pub_sub_project: str | None = None
    pub_sub_topic: str | None = None
    pub_sub_subscription: str | None = None
    google_application_credentials: Path | None = None
    timeout_s: PositiveFloat = 3.0

    predictions_topic: TopicName = ""
    control_topic: TopicName = ""
    events_topic: TopicName = ""
    dead_letters_topic: TopicName = ""
    group: TopicName = ""
    """The consumer group of the workers; `<KAFKA_TOPIC>-worker` by default."""
    partitions: PositiveInt = 8
    """Of a topic that the worker creates; the control topic always has one."""
    replication: PositiveInt = 1

    logdir: Path = Path("logs")
    """Checkpoints, TensorBoard logs and the ledger of jobs; workers may share it."""
    datadir: Path = Path("data")

    max_image_bytes: PositiveInt = 8 * 1024 * 1024
    """Of one message."""
    max_image_pixels: PositiveInt = 16_000_000
    """Height times width of one image, and in sum of the images of one message."""
    serving_batch_size: PositiveInt = 256
    serving_within_s: Annotated[float, Field(ge=0)] = 0.0
    """How long a batch that is not full waits for more images."""
    serving_threads: PositiveInt = os.cpu_count() or 2
    """Of the processor, for the model."""
    top_k: PositiveInt = 3

    training_threads: PositiveInt = max(1, (os.cpu_count() or 2) // 2)
    training_hang_s: PositiveFloat = 600.0
    """A training process that reports nothing for so long is ended."""
    stop_timeout_s: PositiveFloat = 10.0
    """From SIGTERM to the end of the process."""

    routes: Annotated[tuple[Route, ...], BeforeValidator(_from_json)] = ()
    """What the bridge mirrors; by default what the published Pub/Sub keys ask for."""

    training: Mapping[str, Any] = Field(default_factory=dict)
    """The trainer's params for the jobs of this worker; a command's own come on top."""

    @model_validator(mode="before")
    @classmethod
    def _derive_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        topic = values.get("kafka_topic", cls.model_fields["kafka_topic"].default)
        suffixes = {
            "predictions_topic": "predictions",
            "control_topic": "control",
            "events_topic": "events",
            "dead_letters_topic": "dead-letters",
            "group": "worker",
        }
        return {field: f"{topic}-{suffix}" for field, suffix in suffixes.items()} | values

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        topics = [
            self.kafka_topic,
            self.predictions_topic,
            self.control_topic,
            self.events_topic,
            self.dead_letters_topic,
        ]
        twice = sorted({topic for topic in topics if topics.count(topic) > 1})
        if twice:
            raise ValueError(f"two topics share the name {twice[0]!r}; give each its own")
        return self

    @property
    def bridge_routes(self) -> Sequence[Route]:
        """The routes that are set, else those of the published keys, else none."""
        return self.routes or default_routes(
            images_topic=self.kafka_topic,
            predictions_topic=self.predictions_topic,
            pub_sub_topic=self.pub_sub_topic,
            pub_sub_subscription=self.pub_sub_subscription,
        )

    @property
    def topics(self) -> Topics:
        """The names of the deployment's topics."""
        return Topics(
            images=self.kafka_topic,
            predictions=self.predictions_topic,
            control=self.control_topic,
            events=self.events_topic,
            dead_letters=self.dead_letters_topic,
        )

    @property
    def is_embedded(self) -> bool:
        """Whether the broker is the one inside the worker."""
        return self.kafka_host == EMBEDDED


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment and the file that it names.

    Raises:
        SettingsError: lists every setting that is wrong, where it came from and what is allowed.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    worker: dict[str, Any] = {}
    training: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, found in (
        _from_file(environ.get(PARAMS_FILE), problems),
        ("environment", _from_environment(environ)),
    ):
        for key, value in found.items():
            field = _worker_field(key)
            if field is None:
                training[key] = value
            elif field in Settings.model_fields and field != "training":
                worker[field] = value
                sources[field] = f"{key} ({source})"
            else:
                problems.append(f"{key} ({source}): no such setting{_did_you_mean(field)}")
    try:
        settings = Settings(**worker, training=training)
    except ValidationError as error:
        problems += [
            _problem(detail, sources)
            for detail in error.errors()
            if not detail["loc"] or detail["loc"][0] in sources  # not what derives from them
        ]
    if training:
        try:
            trainer.Params.validate_all(training)
        except trainer.ParamsError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError("the worker cannot start:\n  " + "\n  ".join(problems))
    return settings


def _from_file(name: str | None, problems: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the params file's settings, those of its `[worker]` table with the prefix on."""
    if not name:
        return "", {}
    path = Path(name)
    try:
        text = path.read_text("utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        problems.append(f"{PARAMS_FILE}: cannot read {name!r}: {error.strerror}")
        return name, {}
    except ValueError as error:
        problems.append(f"{PARAMS_FILE}: {name!r} is neither TOML nor JSON (.json): {error}")
        return name, {}
    worker = content.pop("worker", {}) if isinstance(content, dict) else None
    if not isinstance(worker, dict):
        problems.append(f"{PARAMS_FILE}: {name!r} has to be a table, and `worker` in it one too")
        return name, {}
    return name, content | {PREFIX + key.upper(): value for key, value in worker.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    ours = set(PUBLISHED) | set(trainer.Params.model_fields)
    return {
        name: value if _worker_field(name) else _parsed(value)
        for name, value in environ.items()
        if name in ours or (name.startswith(PREFIX) and name not in NOT_SETTINGS)
    }


def _worker_field(key: str) -> str | None:
    if key in PUBLISHED:
        return PUBLISHED[key]
    return key.removeprefix(PREFIX).lower() if key.startswith(PREFIX) else None


def _parsed(text: str) -> Any:
    """Read a value of the trainer's: JSON where it is JSON, else the text as it stands."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _did_you_mean(field: str) -> str:
    close = difflib.get_close_matches(field, Settings.model_fields, n=1)
    return f"; did you mean {PREFIX}{close[0].upper()}?" if close else ""


def _problem(detail: Any, sources: Mapping[str, str]) -> str:
    field, *inner = map(str, detail["loc"] or ("settings",))
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    place = ".".join([sources.get(field, field), *inner])
    return f"{place}: {detail['input']!r}: {message}"
