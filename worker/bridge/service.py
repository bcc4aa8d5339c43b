"""The bridge in the worker: checks its routes, runs a thread for each, and watches over them."""

import asyncio
import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mode

from worker.bridge.endpoints import Endpoints, Mirror
from worker.bridge.flow.errors import BridgeError
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.flow.stats import Stats
from worker.bridge.messages.routes import Route, refuse_loops
from worker.bridge.pubsub.client import PubSub
from worker.errors import WorkerError
from worker.kafka.broker import Broker
from worker.kafka.cluster import Cluster

__all__ = ["Bridge"]

logger = logging.getLogger(__name__)

WATCH_S = 0.5  # mode would log each late turn of a timer of a second or more
STOP_S = 14.0
DEFAULTS: Mapping[str, Any] = {
    "log_level": 2,
    "reconnect.backoff.max.ms": 2_000,
    "session.timeout.ms": 10_000,
}
"""A Kafka that is back is found within two seconds, and the partitions of a killed bridge go to the
next one after ten; librdkafka's defaults are 10 s and 45 s."""
GC_OBJECTS = 100_000
"""Messages under way are many objects without cycles; to look for cycles among them after every 700
new objects took a fifth of the time."""
DEFAULT_PACE, DEFAULT_BOUNDS = Pace(), Bounds()


class Bridge(mode.Service):
    """All routes of a worker.

    Args:
        routes: What to mirror, from the settings or `default_routes`.
        broker: Kafka, which has an address when the service starts.
        dead_letters_topic: Where messages go that the other side will never take.
        project: `PUB_SUB_PROJECT`, for short names.
        credentials_file: `GOOGLE_APPLICATION_CREDENTIALS`; None for the default credentials.
        timeout_s: `TIMEOUT`, seconds within which Pub/Sub has to answer a request that carries no
            batch of messages.
        kafka_config: Further settings of confluent-kafka's clients, such as time-outs.
        group: Beginning of the consumer groups' names, `<group>-<topic>-<topic in Pub/Sub>`.
        partitions: Number of partitions of a Kafka topic that is created.
        replication: Replication factor of a Kafka topic that is created.
        pace: The times of each route.
        bounds: The most that each route holds.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        broker: Broker,
        dead_letters_topic: str,
        project: str | None = None,
        credentials_file: Path | None = None,
        timeout_s: float = 3.0,
        kafka_config: Mapping[str, Any] = MappingProxyType({}),
        group: str = "darkroom-bridge",
        partitions: int = 8,
        replication: int = 1,
        pace: Pace = DEFAULT_PACE,
        bounds: Bounds = DEFAULT_BOUNDS,
    ) -> None:
        super().__init__()
        self._routes = routes
        self._broker = broker
        self._dead_letters_topic = dead_letters_topic
        self._project = project
        self._credentials_file = credentials_file
        self._timeout_s = timeout_s
        self._kafka_config = kafka_config
        self._group = group
        self._new_topics = partitions, replication
        self._pace, self._bounds = pace, bounds
        self._stopping = threading.Event()
        self._mirrors: dict[str, Mirror] = {}
        self._warned: dict[str, str] = {}
        self._threads: list[threading.Thread] = []
        self._failures: dict[str, BaseException] = {}
        self._pub_sub: PubSub | None = None
        self._gc_threshold = gc.get_threshold()

    @property
    def stats(self) -> dict[str, Stats]:
        """The figures of each route, by the route's name."""
        return {name: mirror.stats for name, mirror in self._mirrors.items()}

    def prepare(self) -> None:
        """Check both ends of every route; the start does so when nobody has done it before.

        Raises:
            BridgeError: an end is missing or cannot be reached, the credentials are wrong, or
                the routes make a circle; says which and what to do.
            BrokerError: Kafka cannot be reached, or does not allow what a route does.
        """
        if self._mirrors:
            return
        self._pub_sub = PubSub(self._credentials_file, timeout_s=self._timeout_s)
        try:
            self._mirrors = self._connect(self._pub_sub)
        except WorkerError:
            self._pub_sub.close()
            raise

    def _connect(self, pub_sub: PubSub) -> dict[str, Mirror]:
        connection = self._broker.connection
        partitions, replication = self._new_topics
        with Cluster.connect(connection) as cluster:
            endpoints = Endpoints(
                pub_sub=pub_sub,
                cluster=cluster,
                partitions=partitions,
                replication=replication,
                kafka_config={**DEFAULTS, **self._kafka_config, **connection.for_confluent()},
                dead_letters_topic=self._dead_letters_topic,
                group=self._group,
                project=self._project,
                pace=self._pace,
                bounds=self._bounds,
            )
            endpoints.require_topics(self._routes)
            connected = {route.name: endpoints.connect(route) for route in self._routes}
        refuse_loops([step for _, step in connected.values()])
        return {name: mirror for name, (mirror, _) in connected.items()}

    async def on_start(self) -> None:
        """Check both ends of every route, then let the routes run.

        Raises:
            BridgeError: as `prepare` does.
        """
        await asyncio.to_thread(self.prepare)
        self._gc_threshold = gc.get_threshold()
        gc.set_threshold(GC_OBJECTS, *self._gc_threshold[1:])
        for name, mirror in self._mirrors.items():
            thread = threading.Thread(
                target=self._run, args=(name, mirror), name=f"bridge {name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
            logger.info("bridge route=%s started", name)

    async def on_stop(self) -> None:
        """Finish and commit the messages under way, in less than 15 seconds."""
        self._stopping.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, STOP_S)
        if self._pub_sub is not None:
            self._pub_sub.close()
        gc.set_threshold(*self._gc_threshold)

    def _run(self, name: str, mirror: Mirror) -> None:
        try:
            mirror.run(self._stopping)
        except BaseException as error:
            logger.exception("bridge route=%s failed", name)
            self._failures[name] = error

    @mode.Service.timer(WATCH_S)
    async def _watch(self) -> None:
        """End the worker when a route has failed, or no longer finishes any work."""
        for name, error in self._failures.items():
            raise BridgeError(f"route {name} failed: {error}") from error
        for name, stats in self.stats.items():
            self._log_cause(name, stats)
            if stats.stalled_s() > self._pace.stalled_s:
                raise BridgeError(
                    f"route {name} has {stats.outstanding} messages under way and finished none "
                    f"for {self._pace.stalled_s:g} s: {stats.waiting_for or 'no answer'}"
                )

    def _log_cause(self, name: str, stats: Stats) -> None:
        """Log why a route waits, once until the reason is of another kind."""
        kind, reason = stats.cause
        if kind and kind != self._warned.get(name):
            logger.warning("bridge route=%s waiting reason=%s", name, reason)
        self._warned[name] = kind
