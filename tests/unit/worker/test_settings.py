"""What a worker reads at its start."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from worker.bridge.messages.routes import Route
from worker.errors import SettingsError
from worker.settings import load_settings


def problems(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as error:
        load_settings(environ)
    return str(error.value)


def routes(environ: dict[str, str]) -> Sequence[Route]:
    settings = load_settings(environ)
    return settings.bridge.routes_of(settings.kafka.topics)


def test_nothing_has_to_be_set() -> None:
    """Without any setting the broker is the embedded one and names derive from `images`."""
    settings = load_settings({})
    assert settings.kafka.connection.is_embedded
    assert settings.kafka.topics.predictions == "images-predictions"
    assert settings.kafka.group == "images-worker"


def test_a_broker_without_a_port_gets_kafkas() -> None:
    """Several brokers come comma-separated, each with or without its port."""
    settings = load_settings({"KAFKA_HOST": "alpha, beta:19092"})
    assert settings.kafka.connection.hosts == "alpha:9092,beta:19092"


def test_topics_follow_the_images_topic() -> None:
    """Several deployments share a cluster by their topic's name alone."""
    settings = load_settings({"KAFKA_TOPIC": "cells", "DARKROOM_EVENTS_TOPIC": "told"})
    assert (settings.kafka.topics.control, settings.kafka.topics.events) == (
        "cells-control",
        "told",
    )


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_params_file_is_read(tmp_path: Path, suffix: str) -> None:
    """Published keys and the trainer's stand at the top, the worker's own in a table."""
    file = tmp_path / f"params{suffix}"
    if suffix == ".json":
        content = {"KAFKA_TOPIC": "cells", "num_epochs": 7, "worker": {"partitions": 3}}
        file.write_text(json.dumps(content))
    else:
        file.write_text('KAFKA_TOPIC = "cells"\nnum_epochs = 7\n[worker]\npartitions = 3\n')
    settings = load_settings({"DARKROOM_PARAMS": str(file)})
    assert (settings.kafka.images_topic, settings.kafka.partitions) == ("cells", 3)
    assert settings.training.params == {"num_epochs": 7}


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    """A value that both have is the environment's."""
    file = tmp_path / "params.toml"
    file.write_text('KAFKA_TOPIC = "cells"\nbatch_size = 7\n[worker]\npartitions = 3\n')
    environ = {"DARKROOM_PARTITIONS": "5", "batch_size": "64"}
    settings = load_settings({"DARKROOM_PARAMS": str(file), **environ})
    assert (settings.kafka.images_topic, settings.kafka.partitions) == ("cells", 5)
    assert settings.training.params == {"batch_size": 64}


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    """One message has all of it: the setting, where it came from, its value, what is allowed."""
    file = tmp_path / "params.toml"
    file.write_text('n_classes = "many"\n[worker]\npartitons = 3\n')
    text = problems(
        {
            "DARKROOM_PARAMS": str(file),
            "DARKROOM_PARTITIONS": "none",
            "KAFKA_HOST": "somewhere:kafka",
            "TIMEOUT": "-1",
        }
    )
    assert "DARKROOM_PARTITIONS (environment): 'none'" in text
    assert "KAFKA_HOST (environment): 'somewhere:kafka'" in text
    assert "TIMEOUT (environment): '-1'" in text
    assert (
        f"DARKROOM_PARTITONS ({file}): no such setting; did you mean DARKROOM_PARTITIONS?" in text
    )
    assert "n_classes" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [("KAFKA_TOPIC = ", "cannot be read as TOML"), ("worker = 3", "has to be a table")],
)
def test_a_params_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: str, said: str
) -> None:
    """The message has the file's name and what is wrong with it."""
    file = tmp_path / "params.toml"
    file.write_text(content)
    text = problems({"DARKROOM_PARAMS": str(file)})
    assert said in text
    assert str(file) in text


def test_a_params_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The message names the file and why it cannot be read."""
    assert "No such file" in problems({"DARKROOM_PARAMS": str(tmp_path / "none.toml")})


def test_two_topics_of_one_name_are_refused() -> None:
    """Events on the images topic would come back as images."""
    assert "share the name 'images'" in problems({"DARKROOM_EVENTS_TOPIC": "images"})


def test_a_topic_name_that_kafka_refuses_is_refused() -> None:
    """Kafka allows letters, digits, dots, underscores and hyphens."""
    assert "KAFKA_TOPIC (environment): 'my images'" in problems({"KAFKA_TOPIC": "my images"})


def test_variables_of_the_scripts_are_not_settings() -> None:
    """What scripts/test and the tests read may be set where a worker starts."""
    names = ("PYTHON", "SHARED_DATA", "TORCH_INDEX", "TEST_KILLS", "TEST_OUTAGE_S", "BENCH_X")
    environment = {f"DARKROOM_{name}": "1" for name in names}

    assert load_settings(environment) == load_settings({})


def test_routes_come_from_the_file(tmp_path: Path) -> None:
    """What the bridge mirrors stands in tables of the worker's table."""
    file = tmp_path / "params.toml"
    file.write_text(
        '[[worker.routes]]\nkafka_topic = "cells"\npub_sub_topic = "cells"\nordering = "key"\n'
    )
    (route,) = routes({"DARKROOM_PARAMS": str(file)})
    assert (route.kafka_topic, route.pub_sub_topic, route.ordering) == ("cells", "cells", "key")


def test_the_published_keys_are_routes() -> None:
    """A subscription feeds the images topic, and predictions go to the Pub/Sub topic."""
    keys = {"PUB_SUB_PROJECT": "p", "PUB_SUB_TOPIC": "out", "PUB_SUB_SUBSCRIPTION": "in-sub"}
    inward, outward = routes(keys)
    assert (inward.pub_sub_subscription, inward.kafka_topic) == ("in-sub", "images")
    assert (outward.kafka_topic, outward.pub_sub_topic) == ("images-predictions", "out")
    assert not routes({})


def test_a_wrong_route_is_named() -> None:
    """With its number, its key and its value."""
    text = problems({"DARKROOM_ROUTES": '[{"kafka_topic": "a", "pub_sub_topic": "b", "order": 1}]'})
    assert "DARKROOM_ROUTES (environment).0.order: 1" in text
