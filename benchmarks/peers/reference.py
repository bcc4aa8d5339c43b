"""The reference way: kafka-python, JSON nested lists, one image at a time, one thread."""

from __future__ import annotations

import json

import numpy as np
from kafka import KafkaConsumer, KafkaProducer

from benchmarks.peers.job import Job, PlainModel


def main() -> None:
    """Predict image by image; commit the images of a poll when their answers are sent."""
    job = Job.from_arguments()
    model = PlainModel(job.checkpoint)
    producer = KafkaProducer(bootstrap_servers=job.bootstrap, acks="all", linger_ms=0)
    consumer = KafkaConsumer(
        job.topic,
        bootstrap_servers=job.bootstrap,
        group_id=job.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    while True:
        polled = consumer.poll(timeout_ms=1000)
        for messages in polled.values():
            for message in messages:
                content = json.loads(message.value)
                image = np.array(content["image"], np.uint8)
                scores = model.scores([image])[0].tolist()
                best = max(range(len(scores)), key=scores.__getitem__)
                answer = {"id": content["id"], "label": model.names[best], "index": best}
                answer["confidence"] = scores[best]
                producer.send(job.answers, json.dumps(answer).encode(), key=message.key)
        if polled:
            producer.flush()
            consumer.commit()


if __name__ == "__main__":
    main()
