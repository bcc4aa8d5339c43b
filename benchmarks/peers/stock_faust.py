"""Stock Faust: an agent with `noack_take`, the idiom of Faust's that loses nothing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import faust
import mode

from benchmarks.peers.job import BATCH, Job, PlainModel, decode


def main() -> None:
    """Run a Faust worker in this process."""
    job = Job.from_arguments()
    model = PlainModel(job.checkpoint)
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        store="memory://",
        topic_disable_leader=True,
        broker_commit_interval=0.3,
        broker_max_poll_records=1000,
        producer_linger=0.001,
        web_enabled=False,
        stream_buffer_maxsize=65536,
    )
    raw: dict[str, Any] = {"value_type": bytes, "value_serializer": "raw"}
    images = app.topic(job.topic, **raw)
    answers = app.topic(job.answers, **raw)

    @app.agent(images, supervisor_strategy=mode.CrashingSupervisor)
    async def classify(stream: Any) -> None:
        async for events in stream.noack_take(BATCH, within=0.05):
            decoded = [decode(event.value, event.headers) for event in events]
            texts = await asyncio.to_thread(model.answer, decoded)
            sent = [await answers.send(value=text) for text in texts]
            await asyncio.gather(*sent)
            for event in events:
                event.ack()

    sys.argv = ["faust", "worker", "-l", "warn"]
    app.main()


if __name__ == "__main__":
    main()
