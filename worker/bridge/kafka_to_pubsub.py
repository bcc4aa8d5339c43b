"""One route from a Kafka topic to a Pub/Sub topic.

Promise: an offset is committed only when everything before it has been confirmed by Pub/Sub,
dead-lettered, or has no business there.
"""

import logging
import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from worker.bridge.dead_letters import DeadLetter, DeadLetters, Kept
from worker.bridge.errors import BridgeError
from worker.bridge.filter import Filter
from worker.bridge.lanes import Batch, Item, Lanes, Span
from worker.bridge.mapping import ORIGIN, KafkaMessage, Origin, to_pub_sub
from worker.bridge.pub_sub import PubSub, explain
from worker.bridge.routes import Route
from worker.bridge.stats import Recent, Stats, lag_of
from worker.kafka.dead_letters import source_headers
from worker.kafka.offset_window import OffsetWindow

__all__ = ["KafkaToPubSub"]

logger = logging.getLogger(__name__)

READ_MESSAGES = 1000
IDLE_S = 0.05
BUSY_S = 0.002
COMMIT_S = 0.3
LAG_S = 2.0
DRAIN_S = 8.0
FULL_PAUSE_S = 1.0
MAX_OUTSTANDING = 20_000
MAX_OUTSTANDING_BYTES = 64 * 1024 * 1024
MAX_MESSAGE_BYTES = 10_000_000

REFUSED = grpc.StatusCode.INVALID_ARGUMENT
NEEDS_PEOPLE = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}


class KafkaToPubSub:
    """The route's one thread: reads, sends, hears what was confirmed, commits."""

    def __init__(
        self,
        route: Route,
        pub_sub: PubSub,
        dead_letters: DeadLetters,
        *,
        kafka_config: Mapping[str, Any],
        group: str,
        source_place: str,
        topic: str,
    ) -> None:
        """Take both ends as they were found at the start; `topic` is the Pub/Sub topic's path."""
        self.stats = Stats()
        self._route = route
        self._pub_sub = pub_sub
        self._topic = topic
        self._source_place = source_place
        where = {name: value.encode() for name, value in route.where.items()}
        self._filter = Filter(where, f"pubsub/{topic}")
        self._dead_letters = dead_letters
        self._config = {
            **kafka_config,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "queued.max.messages.kbytes": 32 * 1024,
            "fetch.queue.backoff.ms": 20,  # of 1 s the full queue lasts 0.7 at full speed
            "fetch.wait.max.ms": 20,
            "error_cb": self._on_kafka_error,
        }
        self._consumer: Consumer
        self._lanes = Lanes(self._send)
        self._windows: dict[int, OffsetWindow] = {}
        self._committed: dict[int, int] = {}
        self._finished: queue.SimpleQueue[tuple[Batch, Any]] = queue.SimpleQueue()
        self._recent = Recent(route.deduplicate)
        self._full_since: float | None = None
        self._is_paused = False
        self._stop_at: float | None = None
        self._commit_at = self._lag_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish what is under way and commit."""
        self._consumer = Consumer(self._config)
        self._consumer.subscribe(
            [self._route.kafka_topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        try:
            while not stopping.is_set():
                self._take(self._read())
                self._turn()
            self._stop_at = time.monotonic() + DRAIN_S
            self._drain()
        finally:
            self._commit(is_last=True)
            self._consumer.close()
            self._dead_letters.close()

    def _turn(self) -> None:
        self._lanes.pump()
        while not self._finished.empty():
            self._settle(*self._finished.get())
        self._lanes.pump()
        self._dead_letters.poll()
        self.stats.outstanding = self._lanes.outstanding + self._dead_letters.outstanding
        now = time.monotonic()
        if now > self._commit_at:
            self._commit_at = now + COMMIT_S
            self._commit()
        if now > self._lag_at:
            self._lag_at = now + LAG_S
            positions = {number: window.position or 0 for number, window in self._windows.items()}
            self.stats.lag = lag_of(self._consumer, self._route.kafka_topic, positions)

    def _drain(self) -> None:
        """Finish what is under way, for eight seconds; closing the consumer adds none to those."""
        deadline = self._stop_at or time.monotonic() + DRAIN_S
        self._turn()
        while self.stats.outstanding and time.monotonic() < deadline:
            time.sleep(BUSY_S)
            self._turn()

    # what comes in

    def _read(self) -> Sequence[Message]:
        """Return what Kafka has, at once when there is something."""
        if self._is_full():
            self._consumer.poll(0) if self._is_paused else None
            time.sleep(BUSY_S)
            return ()
        first = self._consumer.poll(BUSY_S if self._lanes.outstanding else IDLE_S)
        if first is None:
            return ()
        return [first, *self._consumer.consume(READ_MESSAGES - 1, 0)]

    def _is_full(self) -> bool:
        """Return whether enough is under way; a consumer that does not read is paused."""
        lanes, letters = self._lanes, self._dead_letters
        is_full = (
            lanes.outstanding + letters.outstanding >= MAX_OUTSTANDING
            or lanes.outstanding_bytes + letters.outstanding_bytes >= MAX_OUTSTANDING_BYTES
        )
        if not is_full:
            self._full_since = None
            if self._is_paused:
                self._consumer.resume(self._consumer.assignment())
                self._is_paused = False
            return False
        self._full_since = self._full_since or time.monotonic()
        if not self._is_paused and time.monotonic() - self._full_since > FULL_PAUSE_S:
            self._consumer.pause(self._consumer.assignment())
            self._is_paused = True
        return True

    def _take(self, records: Sequence[Message]) -> None:
        by_partition: dict[int, list[Message]] = {}
        for record in records:
            if (error := record.error()) is not None:
                self._check(error)
            elif (partition := record.partition()) in self._windows:
                by_partition.setdefault(partition, []).append(record)
        for partition, taken in by_partition.items():
            span = Span(self._windows[partition], taken[-1].offset() or 0, len(taken))
            span.window.open(span.last_offset)
            self._route_all(taken, partition, span)

    def _route_all(self, records: Sequence[Message], partition: int, span: Span) -> None:
        """Put what has business there into its lane, a partition's messages in their order."""
        place, ordering = self._source_place, self._route.ordering
        is_choosy = bool(self._route.where) or self._route.deduplicate > 0
        by_key: defaultdict[str, list[Item]] = defaultdict(list)
        for record in records:
            headers: Any = record.headers() or ()
            name = f"{place}/{partition}/{record.offset()}"
            origin = Origin(place, partition, name)
            if headers or is_choosy:
                marks = dict(headers)
                name = (marks.get(ORIGIN) or b"").decode(errors="replace") or name
                if self._filter.stops(marks) or name in self._recent:
                    self.stats.skipped += 1
                    span.done()
                    continue
            kind, time_ms = record.timestamp()
            mapped = KafkaMessage(record.key(), record.value(), headers, time_ms if kind else None)
            wire, key = to_pub_sub(mapped, origin, ordering)
            item, size = Item(wire, span, record, name), len(wire)
            if size > MAX_MESSAGE_BYTES:
                self._give_up(item, "too-large", f"{size} bytes; Pub/Sub takes {MAX_MESSAGE_BYTES}")
            else:
                by_key[key].append(item)
        for key, items in by_key.items():
            self._lanes.add(key, items)

    # what goes out

    def _send(self, batch: Batch) -> None:
        def done(call: Any) -> None:
            self._finished.put((batch, call))

        self._pub_sub.publish(self._topic, [item.message for item in batch.items], done)

    def _settle(self, batch: Batch, call: Any) -> None:
        """Do what the answer to a batch asks for."""
        code = call.code()
        if code is grpc.StatusCode.OK:
            self._lanes.finish(batch)
            for span, n_messages in Counter(item.span for item in batch.items).items():
                span.done(n_messages)
            if self._route.deduplicate:
                for item in batch.items:
                    self._recent.add(item.id)
            self.stats.progress(len(batch.items))
        elif code is REFUSED and len(batch.items) > 1:
            self._lanes.bisect(batch)
        elif code is REFUSED:
            self._lanes.finish(batch)
            self._give_up(batch.items[0], "refused", call.details())
        else:
            self._lanes.retry(batch)
            problem = explain(self._topic, call) if code in NEEDS_PEOPLE else code.name
            self.stats.trouble(str(problem))

    def _give_up(self, item: Item, reason: str, error: str) -> None:
        def done(_: Kept) -> None:  # a value that was left out is still in the topic
            item.span.done()
            self.stats.dead_letters += 1
            self.stats.progress()

        record: Message = item.record
        headers: Any = record.headers() or ()
        source = source_headers(record.topic(), record.partition(), record.offset())
        letter = DeadLetter(record.key(), record.value(), headers, reason, error, source)
        self._dead_letters.send(letter, done)

    # Kafka's side

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._windows[one.partition] = OffsetWindow()
            self._committed.pop(one.partition, None)
        self._consumer.incremental_assign(partitions)
        self._is_paused = False

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drain()
        self._commit(is_last=True)
        self._on_lost(_consumer, partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for one in partitions:
            self._windows.pop(one.partition, None)
        self._consumer.incremental_unassign(partitions)

    def _commit(self, *, is_last: bool = False) -> None:
        """Commit up to the lowest offset that is not done; only the last time wait for Kafka."""
        moved = {
            partition: window.position
            for partition, window in self._windows.items()
            if window.position is not None
            and (is_last or window.position != self._committed.get(partition))
        }
        if not moved:
            return
        topic = self._route.kafka_topic
        offsets = [TopicPartition(topic, *position) for position in moved.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not is_last)  # type: ignore[call-overload]
        except KafkaException as error:
            logger.warning("bridge route=%s commit failed: %s", self._route.name, error)
        else:
            self._committed |= moved

    def _check(self, error: KafkaError) -> None:
        """Raise on an error of the topic's that will not pass."""
        if error.fatal() or error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise BridgeError(f"route {self._route.name}: {error.str()}")

    def _on_kafka_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public code
            self.stats.trouble(f"Kafka: {error.str()}")
