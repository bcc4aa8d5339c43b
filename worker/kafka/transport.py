"""Faust's Kafka transport, changed where it is slow or loses messages.

Written against faust-streaming 0.15 and aiokafka 0.14; `tests/unit/worker/kafka/test_transport.py`
fails when an upgrade changes something that this module relies on. The changes:

- Records of the bulk topics are delivered in bundles, one Faust event for many records: Faust
  spends four tasks and three polls on each message that it delivers.
- The offset to commit comes from an `OffsetWindow`. Faust's own list of acknowledged offsets
  commits over a gap of one message, and counts messages that it skipped in a rebalance as done.
- When partitions are revoked, finished work is committed before it is forgotten, also when another
  commit is under way or the app stops.
- A rebalance that takes partitions away during a seek does not end the worker.
- A topic can be held: its messages stay in Kafka until it is released. The messages of the bulk
  topics also stay there while many are pending. Faust would leave out a partition whose stream has
  a full buffer and wait a whole second for the other partitions, also when these have come to
  their end and the buffer has long been empty.
- A fetch unpacks a few hundred of the records that have arrived, not all (often thousands).
- A fetch waits 50 ms at most, not 1.5 s: the embedded broker answers only after the whole wait.
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.errors import IllegalStateError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message
from mode.utils.futures import notify

from worker.kafka.bundles import BUNDLE_RECORDS, chunks, load_of, to_bundle
from worker.kafka.offset_window import OffsetWindow

__all__ = ["POLL_RECORDS", "Consumer", "Flow", "Transport"]

logger = logging.getLogger(__name__)

FETCH_MAX_WAIT_MS = 50
HELD_POLL_S = 0.05
"""Pause between two looks at the topics while one of them is held."""
POLL_RECORDS = 512
MAX_PENDING = 10 * BUNDLE_RECORDS
"""Load of the bulk topics, as `load_of` counts it, from which on no more is fetched."""


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that holds aiokafka's consumer."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust hard-codes 1,500 ms; the fetcher is made with it when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001
        return consumer


class Consumer(driver.Consumer):
    """Faust's consumer with bundles, offset windows and held topics."""

    transport: "Transport"

    def __init__(self, transport: "Transport", *args: Any, **kwargs: Any) -> None:
        self._windows: dict[TP, OffsetWindow] = {}
        super().__init__(transport, *args, **kwargs)
        transport.flow.attach(self)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Mapping[TP, list[Any]]:
        bulk = self.transport.flow.bulk_topics
        pending = sum(window.pending for tp, window in self._windows.items() if tp.topic in bulk)
        held = self.transport.flow.held_topics | (bulk if pending >= MAX_PENDING else frozenset())
        wanted = {tp for tp in active_partitions or () if tp.topic not in held}
        if not wanted:
            await asyncio.sleep(HELD_POLL_S)
            return {}
        return await super()._getmany(wanted, min(timeout, HELD_POLL_S) if held else timeout)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: `_getmany` decides how much may be pending."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109
        """Fetch records and yield them as messages, those of a bulk topic as bundles.

        Records that are not yielded because a rebalance began are read again from the committed
        offset.
        """
        fetched, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        for tp, records in (fetched or {}).items():
            for message in self._messages(tp, records):
                if self.should_stop or self.app.consumer_generation_id != generation:
                    return
                if not self.flow_active:
                    # The fetched records are read again. The windows stay: pending messages are
                    # still to be committed, and this class's `perform_seek` would forget them.
                    await super().perform_seek()
                    return
                window = self._windows.setdefault(tp, OffsetWindow())
                window.open(message.offset, load_of(message))
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, message

    def _messages(self, tp: TP, records: Sequence[Any]) -> Iterator[Message]:
        if tp.topic not in self.transport.flow.bulk_topics:
            return (self._to_message(tp, record) for record in records)
        generation = self.app.consumer_generation_id
        return (to_bundle(tp, chunk, generation) for chunk in chunks(records))

    def ack(self, message: Message) -> bool:
        """Note that a message's work is done; a message from before a rebalance is ignored."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        is_current = message.generation_id == self.app.consumer_generation_id
        if message.tracked and is_current and message.tp in self._windows:
            self._windows[message.tp].close(message.offset)
        notify(self._waiting_for_ack)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: a window has no gaps, whatever offsets the log leaves out."""

    def _filter_tps_with_pending_acks(
        self, topics: Collection[TP | str] | None = None
    ) -> Iterator[TP]:
        return (tp for tp in self._windows if topics is None or {tp, tp.topic} & set(topics))

    def _new_offset(self, tp: TP) -> int | None:
        return self._windows[tp].position

    def lag(self, tp: TP) -> int:
        """Return how many messages of a partition are not done yet."""
        done = self._windows[tp].position if tp in self._windows else None
        done = done if done is not None else self._committed_offset[tp] or 0
        return max(0, (self.highwater(tp) or 0) - done)

    async def perform_seek(self) -> None:
        """Go back to the committed offsets; messages after them are delivered again."""
        self._windows.clear()
        await super().perform_seek()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go back to the committed offsets, unless a rebalance takes the partitions meanwhile.

        Such a rebalance is followed by a seek of its own; aiokafka's error would end the worker.
        """
        try:
            return await super().seek_to_committed()
        except (IllegalStateError, AssertionError) as error:  # one taken away, or all of them
            logger.info("partitions were taken away during a seek: %s", error)
            return {}

    async def wait_empty(self) -> None:
        """Wait until no message is pending, and commit.

        Faust collects garbage after each message to find messages that were dropped on the way;
        with a model in memory each collection takes long. Here it does so when the number of
        pending messages no longer falls.
        """
        while not self.should_stop and self._unacked_messages:
            before = len(self._unacked_messages)
            await self._wait_for_ack(timeout=1)
            self._clean_unacked_messages()
            if len(self._unacked_messages) == before:
                gc.collect()
        await self.commit_and_end_transactions()

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that has begun; work that was done since is still to be committed.

        Faust would leave it at the commit that has begun. The last commit before a partition is
        given up would then sometimes do nothing, and images would come twice.
        """
        while await super().maybe_wait_for_commit_to_finish():
            pass
        return False

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit the pending messages, then forget the partitions.

        It does so while the app stops too: a rebalance at that moment must not forget work that is
        not committed yet.
        """
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.wait_empty()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._windows.pop(tp, None)


class Flow:
    """What a worker takes from Kafka at the moment: topics on hold, its partitions, its lag.

    Args:
        bulk_topics: Topics whose records are delivered in bundles.
        held_topics: Topics whose messages stay in Kafka until they are released.
    """

    def __init__(
        self, *, bulk_topics: Collection[str] = (), held_topics: Collection[str] = ()
    ) -> None:
        self.bulk_topics = frozenset(bulk_topics)
        self.held_topics = frozenset(held_topics)
        self._consumer: Consumer | None = None

    def attach(self, consumer: Consumer) -> None:
        """Read partitions and lag from a consumer from now on."""
        self._consumer = consumer

    def release(self, topic: str) -> None:
        """Deliver a held topic's messages, within 50 ms."""
        self.held_topics -= {topic}

    def partitions_of(self, topic: str) -> list[int]:
        """Return which partitions of a topic are this worker's now."""
        return sorted(tp.partition for tp in self._assigned(topic))

    def lag_of(self, topic: str) -> dict[str, float]:
        """Return how many messages are not done yet, by each of this worker's partitions."""
        if self._consumer is None:
            return {}
        return {str(tp.partition): self._consumer.lag(tp) for tp in self._assigned(topic)}

    def _assigned(self, topic: str) -> list[TP]:
        if self._consumer is None:
            return []
        try:
            return [tp for tp in self._consumer.assignment() if tp.topic == topic]
        except ConsumerNotStarted:
            return []


class Transport(driver.Transport):
    """Faust's Kafka transport with the consumer of this module."""

    Consumer = Consumer

    def __init__(self, *args: Any, flow: Flow, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.flow = flow
