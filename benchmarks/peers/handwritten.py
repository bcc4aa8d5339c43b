"""A hand-written confluent-kafka loop with the worker's own model: consume, decode, classify,
produce, flush, commit."""  # noqa: D205, D209

from __future__ import annotations

import numpy as np
from confluent_kafka import Consumer, Producer

from benchmarks.peers.job import BATCH, Job, answers, decode
from worker.images.model import load_model


def main() -> None:
    """Serve batches one after the other."""
    job = Job.from_arguments()
    model = load_model(job.checkpoint, "first")
    producer = Producer(
        {"bootstrap.servers": job.bootstrap, "enable.idempotence": True, "linger.ms": 1}
    )
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "group.id": job.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([job.topic])
    while True:
        messages = [one for one in consumer.consume(BATCH, 0.05) if one.error() is None]
        if not messages:
            continue
        images = [decode(one.value() or b"", one.headers()) for one in messages]
        scores = model.probabilities(np.stack([pixels for _, pixels in images])[..., None])
        texts = answers([name for name, _ in images], scores, model.class_names)
        for one, text in zip(messages, texts, strict=True):
            producer.produce(job.answers, text, key=one.key())
        assert producer.flush(30.0) == 0
        consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main()
