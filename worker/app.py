"""The one place where the worker is put together, from top to bottom."""

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import faust
import mode
from faust.exceptions import ConsumerNotStarted
from faust.types import TP, TopicT
from yarl import URL

from worker.broker import Broker
from worker.control.agent import control_agent
from worker.control.broadcast import Broadcast
from worker.control.every_worker import EveryWorker
from worker.control.one_worker import OneWorker
from worker.events import Events
from worker.health import WorkerHealth
from worker.images.agent import images_agent
from worker.images.decode import Limits
from worker.images.deployment import Deployment
from worker.images.pipeline import Pipeline
from worker.images.predictor import Predictor
from worker.publisher import Outgoing, Publisher
from worker.settings import Settings
from worker.topics import Topics
from worker.training.jobs import Ledger
from worker.training.runner import Runner
from worker.transport import Consumer, Transport
from worker.watchdog import Watchdog, coordinator_problem, loop_problem, stop_problem
from worker.web.metrics import Metrics
from worker.web.views import health_views, metrics_view

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["create_app"]

SESSION_TIMEOUT_S = 10.0
EMBEDDED_SESSION_TIMEOUT_S = 6.0
"""A rebalance takes about a session timeout on the embedded broker."""
COMMIT_INTERVAL_S = 0.3
"""What was done within it is delivered a second time after a kill."""
STREAM_BUFFER_BUNDLES = 8
TRAINING_SHARE_OF_STOP = 0.6
"""Of the time that a worker has to stop; the rest is for what follows."""
BLOCKED_S = 50.0
COORDINATOR_S = 10.0


class WorkerApp(faust.App):
    """Faust's app with a broker that is found at the start, services of ours, and a watchdog."""

    def __init__(
        self,
        *args: Any,
        kafka: Broker,
        watchdog: Watchdog,
        bulk_topics: set[str],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._kafka = kafka
        self._watchdog = watchdog
        self.images_transport = Transport(self.conf.broker_consumer, self, bulk_topics=bulk_topics)
        self.transport = self.images_transport
        self.services: Sequence[mode.Service] = ()
        """Started, in this order, when the worker has its partitions."""

    async def on_first_start(self) -> None:
        """Have a broker with topics; Faust's own first start makes folders that nothing uses."""
        self._watchdog.add(loop_problem(self.loop), BLOCKED_S)
        self._watchdog.start()
        await asyncio.to_thread(self._kafka.start)
        brokers = self._kafka.bootstrap.split(",")
        self.images_transport.url = [URL(f"kafka://{broker}") for broker in brokers]

    async def on_started_init_extra_services(self) -> None:
        """Start our services."""
        await super().on_started_init_extra_services()
        for service in self.services:
            await self.add_runtime_dependency(service)

    async def on_shutdown(self) -> None:
        """Stop the embedded broker when everything that talks to it has stopped."""
        await super().on_shutdown()
        await asyncio.to_thread(self._kafka.stop)
        self._watchdog.stop()

    def partitions_of(self, topic: str) -> list[int]:
        """Return which partitions of a topic are this worker's now."""
        return sorted(tp.partition for tp in self._assigned(topic))

    def lag_of(self, topic: str) -> dict[str, float]:
        """Return for each of this worker's partitions how many messages are not done yet."""
        consumer = cast("Consumer", self.consumer)
        return {str(tp.partition): consumer.lag(tp) for tp in self._assigned(topic)}

    def _assigned(self, topic: str) -> list[TP]:
        try:
            return [tp for tp in self.consumer.assignment() if tp.topic == topic]
        except ConsumerNotStarted:
            return []

    def is_in_group(self) -> bool:
        """Whether the worker has its share of the partitions, be it none."""
        return self.consumer_generation_id > 0 and not self.rebalancing

    def raw_topic(self, name: str) -> TopicT:
        """Return a topic of bytes; Faust would drop what it cannot decode itself."""
        return self.topic(
            name,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
        )


def create_app(settings: Settings) -> WorkerApp:
    """Put a worker together; `faust -A worker worker` runs it."""
    topics = Topics.of(settings)
    worker_id = f"{socket.gethostname()}-{os.getpid()}"
    kafka = Broker(settings, topics)
    watchdog = Watchdog()
    metrics = Metrics()
    app = WorkerApp(
        settings.group,
        kafka=kafka,
        watchdog=watchdog,
        bulk_topics={topics.images},
        broker=[URL(f"kafka://{broker}") for broker in settings.kafka_host.split(",")],
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

    publisher = Publisher(lambda: {"bootstrap.servers": kafka.bootstrap})
    app.images_transport.hold(topics.images)
    predictor = Predictor(
        on_first_model=lambda: app.images_transport.release(topics.images),
    )
    deployment = Deployment(settings.logdir, predictor, load=load_model)
    pipeline = Pipeline(
        predictor,
        publisher,
        topics,
        metrics,
        limits=Limits(settings.max_image_bytes, settings.max_image_pixels),
        batch_size=settings.serving_batch_size,
        within_s=settings.serving_within_s,
        top_k=settings.top_k,
    )

    async def send(topic: str, key: bytes, value: bytes) -> None:
        await publisher.send(Outgoing(topic, key, value))

    events = Events(partial(send, topics.events), worker_id)
    ledger = Ledger(settings.logdir)
    runner = Runner(
        ledger,
        events,
        send_command=lambda command: send(topics.control, command.id.encode(), command.to_json()),
        datadir=settings.datadir,
        threads=settings.training_threads,
        hang_s=settings.training_hang_s,
        stop_timeout_s=settings.stop_timeout_s * TRAINING_SHARE_OF_STOP,
    )
    one_worker = OneWorker(ledger, events, runner, defaults=settings.training)
    every_worker = EveryWorker(
        deployment,
        ledger,
        events,
        runner,
        partitions=lambda: app.partitions_of(topics.images),
        versions={name: version(name) for name in ("darkroom", "faust-streaming", "torch")},
    )
    broadcast = Broadcast(
        topics.control,
        every_worker.handle,
        connection=lambda: {"bootstrap_servers": kafka.bootstrap, "client_id": worker_id},
    )

    async def restore() -> None:
        """Serve what is deployed, once no later deployment can be missed."""
        await broadcast.positioned.wait()
        await every_worker.restore()

    app.task(restore)
    app.services = [publisher, pipeline, runner, broadcast]
    watchdog.add(coordinator_problem(app), COORDINATOR_S)
    watchdog.add(stop_problem(app), settings.stop_timeout_s)
    watchdog.add(pipeline.problem, 0.0)

    metrics.gauge("lag", "Messages not done yet.", "partition", lambda: app.lag_of(topics.images))
    metrics.gauge("model", "1 for the deployed model.", "sha256", deployment.as_metric)
    metrics.gauge("jobs", "Jobs in the ledger.", "state", ledger.count_by_state)
    health = WorkerHealth(
        watchdog,
        deployment,
        is_in_group=app.is_in_group,
        partitions=lambda: app.partitions_of(topics.images),
    )
    for path, view in {"/metrics": metrics_view(metrics), **health_views(health)}.items():
        app.page(path)(view)
    app.agent(
        app.raw_topic(topics.images),
        name="images",
        supervisor_strategy=mode.CrashingSupervisor,
    )(images_agent(pipeline))
    app.agent(
        app.raw_topic(topics.control),
        name="control",
        supervisor_strategy=mode.CrashingSupervisor,
    )(control_agent(one_worker))
    return app


def load_model(path: Path, job: str) -> "Model":
    """Load a model; torch is imported with the first one, so that a worker starts at once."""
    from worker.images.model import load_model as load  # noqa: PLC0415

    return load(path, job)
