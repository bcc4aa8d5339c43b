"""How a worker is put together."""

from worker.app import create_app
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection
from worker.kafka.transport import Flow
from worker.part import Agent, Part
from worker.runtime.faust_app import WorkerApp
from worker.runtime.settings import RuntimeSettings
from worker.settings import load_settings


def test_a_worker_reads_images_and_commands() -> None:
    """An agent takes each of the two topics, by their names in the settings."""
    app = create_app(load_settings({"KAFKA_TOPIC": "cells"}))

    topics = {name: list(agent.get_topic_names()) for name, agent in app.agents.items()}
    assert topics == {"images": ["cells"], "control": ["cells-control"]}


def test_a_part_brings_its_agents() -> None:
    """The app takes on whatever a part has; nothing in it has to change for a new room."""

    async def count(stream: object) -> None:
        """Count."""

    part = Part(agents=[Agent("labels", "images-labels", count)])
    broker = Broker(Connection("127.0.0.1:1"))
    app = WorkerApp("group", RuntimeSettings(), broker=broker, flow=Flow(), parts=[part])

    assert list(app.agents) == ["labels"]
