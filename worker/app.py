"""The one place where the worker is put together, from top to bottom."""

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import mode
from yarl import URL

from worker.broker import Broker
from worker.images.agent import images_agent
from worker.images.decode import Limits
from worker.images.deployment import Deployment
from worker.images.pipeline import Pipeline
from worker.images.predictor import Predictor
from worker.publisher import Publisher
from worker.settings import Settings
from worker.topics import Topics
from worker.transport import Transport

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["create_app"]

SESSION_TIMEOUT_S = 10.0
EMBEDDED_SESSION_TIMEOUT_S = 6.0
"""A rebalance takes about a session timeout on the embedded broker."""
COMMIT_INTERVAL_S = 0.3
"""What is delivered twice after a kill is what was done within it."""
STREAM_BUFFER_BUNDLES = 8
HEADERS_BYTES = 64 * 1024
"""Room in a dead letter for the headers beside the largest image."""


class WorkerApp(faust.App):
    """Faust's app, which finds its broker when it starts and not when it is made."""

    def __init__(self, *args: Any, kafka: Broker, bulk_topics: set[str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._kafka = kafka
        self.transport = Transport(self.conf.broker_consumer, self, bulk_topics=bulk_topics)

    async def on_first_start(self) -> None:
        """Have a broker with topics; Faust's own first start makes folders that nothing uses."""
        await asyncio.to_thread(self._kafka.start)
        self.transport.url = [URL(f"kafka://{host}") for host in self._kafka.bootstrap.split(",")]

    async def on_shutdown(self) -> None:
        """Stop the embedded broker when everything that talks to it has stopped."""
        await super().on_shutdown()
        await asyncio.to_thread(self._kafka.stop)


def create_app(settings: Settings) -> faust.App:
    """Put a worker together; `faust -A worker worker` runs it."""
    topics = Topics.of(settings)
    worker_id = f"{socket.gethostname()}-{os.getpid()}"
    kafka = Broker(settings, topics)
    app = WorkerApp(
        settings.group,
        kafka=kafka,
        bulk_topics={topics.images},
        broker=f"kafka://{settings.kafka_host.replace(',', ';kafka://')}",
        broker_client_id=worker_id,
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_session_timeout=(
            EMBEDDED_SESSION_TIMEOUT_S if settings.is_embedded else SESSION_TIMEOUT_S
        ),
        consumer_auto_offset_reset="earliest",
        store="memory://",
        stream_buffer_maxsize=STREAM_BUFFER_BUNDLES,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        worker_redirect_stdouts=False,
    )
    app.transport.hold(topics.images)

    publisher = Publisher(
        lambda: {
            "bootstrap.servers": kafka.bootstrap,
            "message.max.bytes": settings.max_image_bytes + HEADERS_BYTES,
        }
    )
    predictor = Predictor(on_first_model=lambda: app.transport.release(topics.images))
    deployment = Deployment(settings.logdir, predictor, load=load_model)
    app.task(deployment.restore)
    pipeline = Pipeline(
        predictor,
        publisher,
        topics,
        limits=Limits(settings.max_image_bytes, settings.max_image_pixels),
        batch_size=settings.serving_batch_size,
        within_s=settings.serving_within_s,
        top_k=settings.top_k,
    )
    app.service(publisher)
    app.service(pipeline)
    raw = {
        "key_type": bytes,
        "key_serializer": "raw",
        "value_type": bytes,
        "value_serializer": "raw",
    }
    app.agent(
        app.topic(topics.images, **raw),
        name="images",
        supervisor_strategy=mode.CrashingSupervisor,
    )(images_agent(pipeline))
    return app


def load_model(path: Path, job: str) -> "Model":
    """Load a model; torch is imported with the first one, so that a worker starts at once."""
    from worker.images.model import load_model as load  # noqa: PLC0415

    return load(path, job)
