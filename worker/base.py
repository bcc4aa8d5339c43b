"""What every room builds on: who this worker is, its Kafka, and how it says what happens."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from worker.kafka.broker import Broker
from worker.kafka.permissions import worker_permissions
from worker.kafka.publisher import Outgoing, Publisher
from worker.kafka.settings import KafkaSettings
from worker.kafka.topics import Topics
from worker.kafka.transport import Flow
from worker.messages.events import EventPublisher
from worker.part import Part

__all__ = ["Base"]


@dataclass(frozen=True, kw_only=True)
class Base:
    """The objects that the parts of one worker share.

    Attributes:
        worker_id: Names this process in events and logs.
        group: The consumer group of the workers.
        logdir: Checkpoints, jobs, and what is deployed.
        topics: The names of the topics.
        broker: Knows how to reach Kafka once it is started.
        flow: What is taken from Kafka; the images wait there until there is a model.
        publisher: Sends messages in batches.
        events: Says what happens on the events topic.
    """

    worker_id: str
    group: str
    logdir: Path
    topics: Topics
    broker: Broker
    flow: Flow
    publisher: Publisher
    events: EventPublisher

    @classmethod
    def of(cls, kafka: KafkaSettings, logdir: Path) -> Self:
        """Make them for the settings of a worker."""
        topics = kafka.topics
        broker = Broker(
            kafka.connection,
            topics.partitions(kafka.partitions),
            kafka.replication,
            logdir,
            worker_permissions(topics, kafka.group),
        )
        publisher = Publisher(broker)
        worker_id = f"{socket.gethostname()}-{os.getpid()}"

        async def send_event(key: bytes, value: bytes) -> None:
            await publisher.send(Outgoing(topics.events, key, value))

        return cls(
            worker_id=worker_id,
            group=kafka.group,
            logdir=logdir,
            topics=topics,
            broker=broker,
            flow=Flow(bulk_topics={topics.images}, held_topics={topics.images}),
            publisher=publisher,
            events=EventPublisher(send_event, worker_id),
        )

    @property
    def part(self) -> Part:
        """What runs of it."""
        return Part(services=[self.publisher])
