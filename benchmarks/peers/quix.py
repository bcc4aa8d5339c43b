"""Quix Streams: a batching sink that answers before each checkpoint is committed.

Its count windows would keep the last images back. Quix needs an older confluent-kafka than the
worker, so it is installed into its own folder (`benchmarks.predict.quix_folder`).
"""

from __future__ import annotations

import os
from typing import Any

from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.peers.job import BATCH, Job, PlainModel, decode


class Answers(BatchingSink):  # type: ignore[misc] # Quix is not there when this is checked
    """Classifies the images since the last checkpoint and publishes their predictions."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._model = PlainModel(job.checkpoint)
        self._producer = Producer(
            {"bootstrap.servers": job.bootstrap, "enable.idempotence": True, "linger.ms": 1}
        )

    def write(self, batch: SinkBatch) -> None:
        items: list[Any] = list(batch)
        images = [decode(item.value, item.headers) for item in items]
        for start in range(0, len(images), BATCH):
            for text in self._model.answer(images[start : start + BATCH]):
                self._producer.produce(self._job.answers, text)
        assert self._producer.flush(30.0) == 0


def main() -> None:
    """Run a Quix application in this process."""
    job = Job.from_arguments()
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        commit_every=8 * BATCH,  # over all partitions, each of which is written by itself
        commit_interval=float(os.environ["WITHIN_S"]),
        loglevel="WARNING",
    )
    images = app.topic(job.topic, value_deserializer="bytes")
    app.dataframe(images).sink(Answers(job))
    app.run()


if __name__ == "__main__":
    main()
