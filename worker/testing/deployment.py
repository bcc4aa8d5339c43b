"""A deployment to test: a folder, a Kafka, workers on them, and a client."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from worker.testing.clients.kafka_clients import Kafka
from worker.testing.clients.stream_client import StreamClient
from worker.testing.clients.topic_reader import Json
from worker.testing.models import QUICK_PARAMS
from worker.testing.programs.worker_process import WorkerProcess

__all__ = ["LocalDeployment", "unique_topic"]


def unique_topic() -> str:
    """Return a name for an images topic that nobody else uses."""
    return f"images-{uuid.uuid4().hex[:8]}"


@dataclass
class LocalDeployment:
    """Workers of this machine on one log folder and one Kafka; all are stopped at the end.

    Args:
        folder: holds `logs`, `data` and the workers' output.
        kafka: value of KAFKA_HOST; "embedded" is the first worker's.
        topic: the images topic; a new one by default.
        settings: environment variables of every worker, such as those of a secured Kafka.
        client_kafka: how the client reaches Kafka; by default as the workers do.
    """

    folder: Path
    kafka: str = "embedded"
    topic: str = field(default_factory=unique_topic)
    settings: Mapping[str, str] = field(default_factory=dict)
    client_kafka: Kafka | None = None
    workers: list[WorkerProcess] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)
    _client: StreamClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def logdir(self) -> Path:
        """Checkpoints, jobs, and which checkpoint is deployed."""
        return self.folder / "logs"

    def start_worker(self, **settings: str) -> WorkerProcess:
        """Start a worker with these environment variables besides, and wait until it is ready."""
        return self._start(settings).wait_ready()

    def start_workers(self, count: int, **settings: str) -> list[WorkerProcess]:
        """Start workers at the same time, and wait until all are ready."""
        workers = [self._start(settings) for _ in range(count)]
        return [worker.wait_ready() for worker in workers]

    def _start(self, settings: Mapping[str, str]) -> WorkerProcess:
        worker = WorkerProcess(
            self.folder,
            kafka=self.kafka,
            topic=self.topic,
            name=f"worker-{len(self.workers) + 1}",
            settings={**self.settings, **settings},
        )
        self.workers.append(worker)
        return self._open.enter_context(worker)

    @property
    def client(self) -> StreamClient:
        """A client of this deployment's Kafka, made at its first use; a worker has to be up."""
        if self._client is None:
            kafka = self.client_kafka or self.workers[-1].connection
            self._client = StreamClient(kafka, self.topic)
            self._open.enter_context(self._client)
        return self._client

    def train(self, job: str, **params: object) -> Json:
        """Train a job, wait until it is served, and return its `finished` event."""
        self.client.command("start-training", id=job, params=QUICK_PARAMS | params)
        finished = self.client.event("finished", job=job)
        self.client.event("reloaded", checkpoint=finished["checkpoint"])
        return finished
