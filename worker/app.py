"""The one place where the worker is put together, from top to bottom."""

import os
import socket
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mode
from yarl import URL

from worker.control.agent import control_agent
from worker.control.broadcast_commands import BroadcastCommands
from worker.control.command_listener import CommandListener
from worker.control.group_commands import GroupCommands
from worker.images.agent import images_agent
from worker.images.decode import Limits
from worker.images.deployment import Deployment
from worker.images.pipeline import CLASSIFIERS, Pipeline
from worker.images.predictor import Predictor
from worker.kafka.broker import Broker
from worker.kafka.publisher import Outgoing, Publisher
from worker.kafka.topics import Topics
from worker.kafka.transport import POLL_RECORDS
from worker.messages.events import EventPublisher
from worker.runtime.faust_app import WorkerApp
from worker.runtime.health import WorkerHealth
from worker.runtime.metrics import Metrics
from worker.runtime.views import health_views, metrics_view
from worker.runtime.watchdog import Watchdog, coordinator_problem, stop_problem
from worker.settings import Settings
from worker.training.jobs import Ledger
from worker.training.runner import Runner

if TYPE_CHECKING:
    from worker.bridge.service import Bridge
    from worker.images.model import Model

__all__ = ["create_app"]

SESSION_TIMEOUT_S = 10.0
EMBEDDED_SESSION_TIMEOUT_S = 6.0
"""A rebalance takes about a session timeout on the embedded broker."""
COMMIT_INTERVAL_S = 0.3
"""What was done within it is delivered a second time after a kill."""
TRAINING_SHARE_OF_STOP = 0.6
"""Of the time that a worker has to stop; the rest is for what follows."""
COORDINATOR_S = 10.0
FOLLOW_S = 2.0
"""How often a worker looks whether it serves what is deployed."""


def create_app(settings: Settings) -> WorkerApp:
    """Put a worker together; `faust -A worker worker` runs it."""
    topics = settings.topics
    worker_id = f"{socket.gethostname()}-{os.getpid()}"
    kafka = Broker(settings, topics)
    watchdog = Watchdog()
    metrics = Metrics()
    app = WorkerApp(
        settings.group,
        kafka=kafka,
        logdir=settings.logdir,
        watchdog=watchdog,
        bulk_topics={topics.images},
        broker=[URL(f"kafka://{broker}") for broker in settings.kafka_host.split(",")],
        broker_client_id=worker_id,
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_max_poll_records=POLL_RECORDS,
        broker_session_timeout=(
            EMBEDDED_SESSION_TIMEOUT_S if settings.is_embedded else SESSION_TIMEOUT_S
        ),
        consumer_auto_offset_reset="earliest",
        store="memory://",
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
    threads = max(1, settings.serving_threads // CLASSIFIERS)
    deployment = Deployment(settings.logdir, predictor, load=partial(load_model, threads))
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

    events = EventPublisher(partial(send, topics.events), worker_id)
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
    group_commands = GroupCommands(ledger, events, runner, defaults=settings.training)
    broadcast_commands = BroadcastCommands(
        deployment,
        ledger,
        events,
        runner,
        partitions=lambda: app.partitions_of(topics.images),
        versions={name: version(name) for name in ("darkroom", "faust-streaming", "torch")},
    )
    listener = CommandListener(
        topics.control,
        broadcast_commands.handle,
        connection=lambda: {"bootstrap_servers": kafka.bootstrap, "client_id": worker_id},
    )

    async def follow() -> None:
        """Serve what is deployed, once no later deployment can be missed."""
        await listener.has_position.wait()
        while not app.should_stop:
            await broadcast_commands.catch_up()
            await app.sleep(FOLLOW_S)

    app.task(follow)
    app.begin_stop = runner.begin_stop
    mirrors = bridges(settings, kafka, topics, metrics)
    app.services = [publisher, pipeline, runner, listener, *mirrors]
    app.checks = [bridge.prepare for bridge in mirrors]
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
    )(control_agent(group_commands))
    return app


def bridges(
    settings: Settings, kafka: Broker, topics: Topics, metrics: Metrics
) -> "Sequence[Bridge]":
    """Return the bridge when there is something to mirror; its clients are imported only then."""
    if not settings.bridge_routes:
        return ()
    from worker.bridge.metrics import export  # noqa: PLC0415
    from worker.bridge.service import bridge_services  # noqa: PLC0415

    (bridge,) = bridge_services(
        settings.bridge_routes,
        bootstrap=lambda: kafka.bootstrap,
        dead_letters_topic=topics.dead_letters,
        project=settings.pub_sub_project,
        credentials_file=settings.google_application_credentials,
        group=f"{settings.group}-bridge",
        partitions=settings.partitions,
        replication=settings.replication,
    )
    export(metrics, lambda: bridge.stats)
    return (bridge,)


def load_model(threads: int, path: Path, job: str) -> "Model":
    """Load a model; torch is imported with the first one, so that a worker starts at once."""
    from worker.images.model import load_model as load  # noqa: PLC0415

    return load(path, job, threads=threads)
