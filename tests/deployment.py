"""A deployment to test: a folder, a broker, workers on them, and a client."""

from __future__ import annotations

import csv
import itertools
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from tests.stream_client import Json, StreamClient
from tests.worker_process import WorkerProcess

PARAMS: dict[str, Any] = {
    "batch_size": 64,
    "eval_batch_size": 200,
    "eval_freq": 1,
    "flip_images": False,
    "num_epochs": 4,
    "optim_kwargs": {"momentum": 0.9},
    "learning_rate": 0.05,
    "save_freq": 1,
}
"""A few quick epochs, with which the digits are told apart well enough."""

numbers = itertools.count(1)


@dataclass
class Deployment:
    """Workers on one log folder and one broker; all of them are stopped at the end."""

    folder: Path
    kafka: str = "embedded"
    topic: str = field(default_factory=lambda: f"images{next(numbers)}")
    workers: list[WorkerProcess] = field(default_factory=list)
    _open: ExitStack = field(default_factory=ExitStack)
    _client: StreamClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def logdir(self) -> Path:
        return self.folder / "logs"

    def start_worker(self, **settings: str) -> WorkerProcess:
        """Start a worker, and wait until it is ready."""
        worker = WorkerProcess(
            self.folder,
            kafka=self.kafka,
            topic=self.topic,
            name=f"worker-{len(self.workers) + 1}",
            settings=settings,
        )
        self.workers.append(worker)
        self._open.enter_context(worker)
        return worker.wait_ready()

    @property
    def client(self) -> StreamClient:
        """A client of this deployment's broker, made at its first use; a worker has to be up."""
        if self._client is None:
            self._client = StreamClient(self.workers[-1].bootstrap, self.topic)
            self._open.enter_context(self._client)
        return self._client

    def train(self, job: str, **params: object) -> Json:
        """Train a job, wait until it is served, and return its `finished` event."""
        self.client.command("start-training", id=job, params=PARAMS | params)
        finished = self.client.event("finished", job=job)
        self.client.event("reloaded", checkpoint=finished["checkpoint"])
        return finished

    def copy_to(self, folder: Path) -> Path:
        """Copy what outlives a worker (logs and data) to another folder."""
        for name in ("logs", "data"):
            shutil.copytree(self.folder / name, folder / name)
        (folder / "logs" / "broker.json").unlink(missing_ok=True)
        return folder


@dataclass(frozen=True)
class Digits:
    """Real labelled digits: grey uint8 images (N, 28, 28) and their labels."""

    images: np.ndarray
    labels: list[str]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the images that a folder's info.csv lists."""
        with (folder / "info.csv").open(newline="") as table:
            rows = list(csv.DictReader(table))
        images = [cv2.imread(str(folder / row["files"]), cv2.IMREAD_GRAYSCALE) for row in rows]
        return cls(np.stack(images), [row["type"] for row in rows])

    def __len__(self) -> int:
        return len(self.labels)

    def ids(self, prefix: str) -> list[str]:
        """Return an id for each image."""
        return [f"{prefix}-{index}" for index in range(len(self))]

    def accuracy(self, predictions: dict[str, Json], ids: list[str]) -> float:
        """Return the share of the predictions that name the right label."""
        right = [
            str(predictions[name]["label"]) == label
            for name, label in zip(ids, self.labels, strict=True)
        ]
        return sum(right) / len(right)


def data_folder(source: Path, folder: Path) -> Path:
    """Copy a data folder into a deployment's folder, and return that."""
    shutil.copytree(source, folder / "data")
    return folder


def deployments(folder: Path, kafka: str) -> Iterator[Deployment]:
    """Yield one deployment; the body of a fixture."""
    with Deployment(folder, kafka) as deployment:
        yield deployment
