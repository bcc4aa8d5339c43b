"""One route from a Kafka topic to a Pub/Sub topic.

Promise: an offset is committed only when everything before it has been confirmed by Pub/Sub,
stored among the dead letters, or filtered out.
"""

import queue
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from confluent_kafka import Message

from worker.bridge.flow.lanes import Batch, Item, Lanes, Span
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.flow.stats import Stats
from worker.bridge.kafka.source import KafkaSource
from worker.bridge.messages.dead_letters import DeadLetter, DeadLetters, KeptAs
from worker.bridge.messages.filter import Filter, RecentIds
from worker.bridge.messages.mapping import ORIGIN, KafkaMessage, Origin, to_pub_sub
from worker.bridge.messages.routes import Route
from worker.bridge.pubsub.client import PubSub, explain
from worker.kafka.dead_letters import source_headers

__all__ = ["KafkaToPubSub"]

COMMIT_S = 0.3
LAG_S = 2.0
MAX_MESSAGE_BYTES = 10_000_000

REFUSED = grpc.StatusCode.INVALID_ARGUMENT
NEEDS_PEOPLE = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}


class KafkaToPubSub:
    """The route's one thread: it reads, sends, takes the answers and commits."""

    def __init__(
        self,
        route: Route,
        source: KafkaSource,
        pub_sub: PubSub,
        dead_letters: DeadLetters,
        *,
        source_place: str,
        topic: str,
        pace: Pace,
        bounds: Bounds,
    ) -> None:
        """Prepare to mirror.

        Args:
            route: What is mirrored.
            source: The Kafka topic; opened and closed by the route.
            pub_sub: The channel to Pub/Sub.
            dead_letters: Takes the messages that Pub/Sub refuses; closed by the route.
            source_place: The Kafka topic's name among all clusters.
            topic: The Pub/Sub topic's path.
            pace: The times of the route.
            bounds: The most that the route holds.
        """
        self.stats = Stats(pace.quiet_s)
        self._route, self._source, self._source_place = route, source, source_place
        self._pub_sub, self._topic = pub_sub, topic
        where = {name: value.encode() for name, value in route.where.items()}
        self._filter = Filter(where, f"pubsub/{topic}")
        self._recent = RecentIds(route.deduplicate)
        self._dead_letters = dead_letters
        self._pace, self._bounds = pace, bounds
        self._lanes = Lanes(self._send, bounds, pace)
        self._answers: queue.SimpleQueue[tuple[Batch, Any]] = queue.SimpleQueue()
        self._stop_at: float | None = None
        self._commit_at = self._lag_at = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Mirror until `stopping` is set, then finish the messages under way and commit."""
        self._source.open(on_revoke=self._drain, on_outage=self.stats.record_failure)
        try:
            while not stopping.is_set():
                self._take()
                self._turn()
            self._stop_at = time.monotonic() + self._pace.drain_s
            self._drain()
        finally:
            self._source.close()
            self._dead_letters.close()

    def _turn(self) -> None:
        """Send, take the answers, and commit and measure the lag now and then."""
        self._lanes.pump()
        while not self._answers.empty():
            self._settle(*self._answers.get())
        self._lanes.pump()
        self._dead_letters.poll()
        self.stats.outstanding = self._lanes.outstanding + self._dead_letters.outstanding
        self.stats.dead_letters_problem = self._dead_letters.problem
        now = time.monotonic()
        if now > self._commit_at:
            self._commit_at = now + COMMIT_S
            self._source.commit()
        if now > self._lag_at:
            self._lag_at = now + LAG_S
            self.stats.lag = self._source.lag()

    def _drain(self) -> None:
        """Finish the messages under way, until the drain time is over."""
        # a revocation while the consumer closes drains too, and gets no time of its own
        deadline = self._stop_at or time.monotonic() + self._pace.drain_s
        self._turn()
        while self.stats.outstanding and time.monotonic() < deadline:
            time.sleep(self._pace.busy_poll_s)
            self._turn()

    # reading

    def _take(self) -> None:
        """Put the next records from Kafka into lanes, or wait when there is no room for more."""
        pace, room = self._pace, self._room()
        if room <= 0:
            self._source.wait(pace.busy_poll_s)
            return
        timeout_s = pace.busy_poll_s if self._lanes.outstanding else pace.idle_poll_s
        for partition, records in self._source.read(room, timeout_s).items():
            last_offset = records[-1].offset() or 0
            span = self._source.offsets.open_span(partition, last_offset, len(records))
            self._put_in_lanes(records, partition, span)

    def _room(self) -> int:
        """Return how many more messages the route may hold."""
        lanes, letters = self._lanes, self._dead_letters
        if lanes.outstanding_bytes + letters.outstanding_bytes >= self._bounds.n_bytes:
            return 0
        return self._bounds.messages - lanes.outstanding - letters.outstanding

    def _put_in_lanes(self, records: Sequence[Message], partition: int, span: Span) -> None:
        """Map the records of a partition, in their order, except those that are filtered out."""
        place, ordering = self._source_place, self._route.ordering
        needs_filter = bool(self._route.where) or self._route.deduplicate > 0
        by_key: defaultdict[str, list[Item]] = defaultdict(list)
        for record in records:
            headers: Any = record.headers() or ()
            name = f"{place}/{partition}/{record.offset()}"
            origin = Origin(place, partition, name)
            if headers or needs_filter:
                own = dict(headers)
                name = (own.get(ORIGIN) or b"").decode(errors="replace") or name
                if self._filter.excludes(own) or name in self._recent:
                    self.stats.skipped += 1
                    span.finish()
                    continue
            kind, time_ms = record.timestamp()
            message = KafkaMessage(record.key(), record.value(), headers, time_ms if kind else None)
            wire, key = to_pub_sub(message, origin, ordering)
            item, size = Item(wire, span, record, name), len(wire)
            if size > MAX_MESSAGE_BYTES:
                self._give_up(item, "too-large", f"{size} bytes; Pub/Sub takes {MAX_MESSAGE_BYTES}")
            else:
                by_key[key].append(item)
        for key, items in by_key.items():
            self._lanes.add(key, items)

    # sending

    def _send(self, batch: Batch) -> None:
        def on_answer(call: Any) -> None:  # in a thread of gRPC's
            self._answers.put((batch, call))

        self._pub_sub.publish(self._topic, [item.message for item in batch.items], on_answer)

    def _settle(self, batch: Batch, call: Any) -> None:
        """Finish, divide or repeat a batch, as its answer requires."""
        code = call.code()
        if code is grpc.StatusCode.OK:
            self._lanes.finish(batch)
            self._confirm(batch)
        elif code is REFUSED and len(batch.items) > 1:
            self._lanes.bisect(batch)
        elif code is REFUSED:
            self._lanes.finish(batch)
            self._give_up(batch.items[0], "refused", call.details())
        else:
            self._lanes.retry(batch)
            problem = explain(self._topic, call) if code in NEEDS_PEOPLE else code.name
            self.stats.record_failure(str(problem))

    def _confirm(self, batch: Batch) -> None:
        for span, n_messages in Counter(item.span for item in batch.items).items():
            span.finish(n_messages)
        if self._route.deduplicate:
            for item in batch.items:
                self._recent.add(item.id)
        self.stats.record_progress(len(batch.items))

    def _give_up(self, item: Item, reason: str, error: str) -> None:
        record: Message = item.record
        headers: Any = record.headers() or ()
        source = source_headers(record.topic(), record.partition(), record.offset())
        letter = DeadLetter(record.key(), record.value(), headers, reason, error, source)
        self._dead_letters.send(letter, self._on_stored(item.span))

    def _on_stored(self, span: Span) -> Callable[[KeptAs], None]:
        def finish(_: KeptAs) -> None:  # a value that was left out is still in the topic
            span.finish()
            self.stats.dead_letters += 1
            self.stats.record_progress()

        return finish
