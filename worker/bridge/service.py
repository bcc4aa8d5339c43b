"""The bridge in the worker: checks its routes, runs a thread for each, watches over them."""

import asyncio
import gc
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mode

from worker.bridge.cluster import Cluster
from worker.bridge.dead_letters import DeadLetters
from worker.bridge.errors import BridgeError
from worker.bridge.kafka_to_pubsub import KafkaToPubSub
from worker.bridge.pub_sub import PubSub
from worker.bridge.pubsub_to_kafka import PubSubToKafka
from worker.bridge.routes import Route, refuse_loops
from worker.bridge.stats import Stats
from worker.errors import WorkerError
from worker.kafka.broker import Broker

__all__ = ["Bridge"]

logger = logging.getLogger(__name__)

WATCH_S = 1.0
STALLED_S = 300.0
STOP_S = 14.0
DEFAULTS: Mapping[str, Any] = {
    "log_level": 2,
    "reconnect.backoff.max.ms": 2_000,
    "session.timeout.ms": 10_000,
}
"""A Kafka that is back is found within two seconds, and what a killed bridge read is read on after
ten; librdkafka's own times are up to 10 s and 45 s."""
GC_OBJECTS = 100_000
"""Messages under way are many objects and no circles; to look for some took a fifth of the time."""

Mirror = KafkaToPubSub | PubSubToKafka


class Bridge(mode.Service):
    """All routes of a worker.

    Args:
        routes: from the settings, or `default_routes`.
        broker: Kafka, which has an address when the service starts.
        dead_letters_topic: where messages go that the other side will never take.
        project: `PUB_SUB_PROJECT`, for short names.
        credentials_file: `GOOGLE_APPLICATION_CREDENTIALS`; None for the default credentials.
        kafka_config: further settings of confluent-kafka's clients, such as time-outs.
        group: the consumer groups are called `<group>-<route>`.
        partitions: number of partitions of a Kafka topic that is created.
        replication: replication factor of a Kafka topic that is created.
        stalled_s: a route that has work and gets none of it done for so long ends the worker.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        broker: Broker,
        dead_letters_topic: str,
        project: str | None = None,
        credentials_file: Path | None = None,
        kafka_config: Mapping[str, Any] = MappingProxyType({}),
        group: str = "darkroom-bridge",
        partitions: int = 8,
        replication: int = 1,
        stalled_s: float = STALLED_S,
    ) -> None:
        super().__init__()
        self._routes = routes
        self._broker = broker
        self._dead_letters_topic = dead_letters_topic
        self._project = project
        self._credentials_file = credentials_file
        self._kafka_config = kafka_config
        self._group = group
        self._new_topics = partitions, replication
        self._stalled_s = stalled_s
        self._stopping = threading.Event()
        self._mirrors: dict[str, Mirror] = {}
        self._dead_letters: dict[str, DeadLetters] = {}
        self._warned: dict[str, str] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._failures: dict[str, BaseException] = {}
        self._pub_sub: PubSub | None = None
        self._gc_threshold = gc.get_threshold()

    @property
    def stats(self) -> dict[str, Stats]:
        """What each route has done and has before it, by the route's name."""
        return {name: mirror.stats for name, mirror in self._mirrors.items()}

    def prepare(self) -> None:
        """Check both ends of every route; done by the start where it was not done before.

        Raises:
            BridgeError: an end is missing or cannot be reached, the credentials are wrong, or
                the routes make a circle; says which and what to do.
        """
        if self._mirrors:
            return
        try:
            self._prepare()
        except WorkerError:
            self._mirrors.clear()
            if self._pub_sub is not None:
                self._pub_sub.close()
            raise

    async def on_start(self) -> None:
        """Check both ends of every route, then let them run.

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
            self._threads[name] = thread
            thread.start()
            logger.info("bridge route=%s started", name)

    async def on_stop(self) -> None:
        """Finish and commit what is under way, in less than 15 seconds."""
        self._stopping.set()
        for thread in self._threads.values():
            await asyncio.to_thread(thread.join, STOP_S)
        if self._pub_sub is not None:
            self._pub_sub.close()
        gc.set_threshold(*self._gc_threshold)

    @mode.Service.task
    async def _watch(self) -> None:
        """End the worker when a route has failed, or no longer gets anything done."""
        while not self.should_stop:
            await self.sleep(WATCH_S)
            for name, error in self._failures.items():
                raise BridgeError(f"route {name} failed: {error}") from error
            for name, stats in self.stats.items():
                stats.stuck = self._dead_letters[name].trouble
                self._warn(name, stats)
                if stats.stalled_s() > self._stalled_s:
                    raise BridgeError(
                        f"route {name} has {stats.outstanding} messages under way and got none "
                        f"done for {self._stalled_s:g} s: {stats.waiting_for or 'no answer'}"
                    )

    def _warn(self, name: str, stats: Stats) -> None:
        """Log what a route waits for, once until it is of another kind."""
        kind, reason = stats.cause
        if kind and kind != self._warned.get(name):
            logger.warning("bridge route=%s waiting reason=%s", name, reason)
        self._warned[name] = kind

    def _run(self, name: str, mirror: Mirror) -> None:
        try:
            mirror.run(self._stopping)
        except BaseException as error:
            logger.exception("bridge route=%s failed", name)
            self._failures[name] = error

    def _prepare(self) -> None:
        self._pub_sub = pub_sub = PubSub(self._credentials_file)
        connection = self._broker.connection
        config = {**DEFAULTS, **self._kafka_config, **connection.for_confluent()}
        partitions, replication = self._new_topics
        cluster = Cluster(connection, partitions=partitions, replication=replication)
        steps = []
        for route in self._routes:
            cluster.require_topic(route)
            kafka_place = cluster.place_of(route.kafka_topic)
            if route.is_inward:
                limit = cluster.max_message_bytes(route.kafka_topic)
                mirror, pub_sub_place = self._inward(route, pub_sub, config, kafka_place, limit)
                steps.append((route.name, pub_sub_place, kafka_place))
            else:
                mirror, pub_sub_place = self._outward(route, pub_sub, config, kafka_place)
                steps.append((route.name, kafka_place, pub_sub_place))
            self._mirrors[route.name] = mirror
        refuse_loops(steps)

    def _letters_of(self, route: Route, config: dict[str, Any]) -> DeadLetters:
        self._dead_letters[route.name] = letters = DeadLetters(config, self._dead_letters_topic)
        return letters

    def _inward(
        self,
        route: Route,
        pub_sub: PubSub,
        config: dict[str, Any],
        kafka_place: str,
        max_message_bytes: int,
    ) -> tuple[Mirror, str]:
        subscription = route.subscription_path(self._project) or ""
        topic = route.topic_path(self._project)
        if route.create and topic:
            pub_sub.require_topic(topic, create=True)
        place = (
            f"pubsub/{pub_sub.topic_of(subscription, create_on=topic if route.create else None)}"
        )
        dead_letters = self._letters_of(route, config)
        mirror = PubSubToKafka(
            route,
            pub_sub,
            dead_letters,
            kafka_config=config,
            max_message_bytes=max_message_bytes,
            subscription=subscription,
            source_place=place,
            target_place=kafka_place,
        )
        return mirror, place

    def _outward(
        self, route: Route, pub_sub: PubSub, config: dict[str, Any], kafka_place: str
    ) -> tuple[Mirror, str]:
        topic = route.topic_path(self._project) or ""
        pub_sub.require_topic(topic, create=route.create)
        dead_letters = self._letters_of(route, config)
        mirror = KafkaToPubSub(
            route,
            pub_sub,
            dead_letters,
            kafka_config=config,
            group=f"{self._group}-{route.kafka_topic}-{topic.rpartition('/')[2]}",
            source_place=kafka_place,
            topic=topic,
        )
        return mirror, f"pubsub/{topic}"
