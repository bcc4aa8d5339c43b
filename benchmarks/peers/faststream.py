"""FastStream: a batch subscriber on confluent-kafka that acknowledges after its answers."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from benchmarks.peers.job import BATCH, Job, PlainModel, decode


async def undecoded(message: Any) -> Any:
    return message.body


def main() -> None:
    """Run a FastStream application in this process."""
    job = Job.from_arguments()
    model = PlainModel(job.checkpoint)
    broker = KafkaBroker(job.bootstrap, acks="all", linger_ms=1, logger=None)

    @broker.subscriber(
        job.topic,
        group_id=job.group,
        auto_offset_reset="earliest",
        batch=True,
        max_records=BATCH,
        polling_interval=0.05,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=undecoded,
    )
    async def classify(message: KafkaMessage) -> None:
        records: Any = message.raw_message
        images = [decode(record.value(), record.headers()) for record in records]
        texts = await asyncio.to_thread(model.answer, images)
        await broker.publish_batch(*texts, topic=job.answers)

    asyncio.run(FastStream(broker, logger=None).run())


if __name__ == "__main__":
    main()
