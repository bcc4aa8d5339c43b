"""Faust's Kafka transport, changed where it is slow or loses messages.

Written against faust-streaming 0.15 and aiokafka 0.14; `tests/unit/worker/test_transport.py`
fails when an upgrade changes what is relied on here. The changes:

- Records of the bulk topics are delivered in bundles, one Faust event for many records: Faust
  spends four tasks and three polls on each message that it delivers.
- What is committed comes from a `Window`. Faust's own list of acknowledged offsets commits over a
  gap of one message, and counts what it skipped in a rebalance as done.
- When partitions are revoked, what was done is committed before it is forgotten, also when another
  commit is under way or the app stops.
- A topic can be held: its messages stay in Kafka until it is released. So do those of the bulk
  topics while enough is in hand. Faust leaves out a partition whose stream's buffer is full, and
  waits for the others a whole second, also when they have come to their end and the buffer is
  long empty.
- A fetch unpacks a few hundred records and not all that have come, thousands.
- A fetch waits 50 ms at most, not 1.5 s: the embedded broker answers no sooner.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

import aiokafka
from aiokafka.structs import ConsumerRecord
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.futures import notify

from worker.kafka.offset_window import Window

__all__ = ["POLL_RECORDS", "Bundle", "Consumer", "Transport"]

FETCH_MAX_WAIT_MS = 50
HELD_POLL_S = 0.05
BUNDLE_RECORDS = 256
BUNDLE_BYTES = 4 * 1024 * 1024
POLL_RECORDS = 512
IN_HAND = 10 * BUNDLE_RECORDS
"""How much of the bulk topics may be in hand before more is fetched: records, or 16 KiB each."""


class Bundle(ConsumerMessage):
    """Consecutive records of one partition as one message; its offset is the last one's."""

    records: Sequence[ConsumerRecord[bytes, bytes]]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that holds aiokafka's consumer."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust hard-codes 1,500 ms; the fetcher is made with it when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001
        return consumer


class Consumer(driver.Consumer):
    """Faust's consumer with bundles, windows and topics on hold."""

    transport: "Transport"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._windows: dict[TP, Window] = {}
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Mapping[TP, list[Any]]:
        bulk = self.transport.bulk_topics
        in_hand = sum(window.in_hand for tp, window in self._windows.items() if tp.topic in bulk)
        held = self.transport.held_topics | (bulk if in_hand >= IN_HAND else frozenset())
        wanted = {tp for tp in active_partitions or () if tp.topic not in held}
        if not wanted:
            await asyncio.sleep(HELD_POLL_S)
            return {}
        return await super()._getmany(wanted, min(timeout, HELD_POLL_S) if held else timeout)

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: how much may be in hand is decided above."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109
        """Fetch records and yield them as messages, those of a bulk topic as bundles.

        What is not yielded because a rebalance began is read again from the committed offset.
        """
        fetched, _ = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        for tp, records in (fetched or {}).items():
            for message in self._messages(tp, records):
                if self.should_stop or self.app.consumer_generation_id != generation:
                    return
                if not self.flow_active:
                    # What was fetched is read again. The windows stay: what is in hand is still
                    # to be committed, and `perform_seek` here would forget it.
                    await super().perform_seek()
                    return
                self._windows.setdefault(tp, Window()).open(message.offset, weight(message))
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, message

    def _messages(self, tp: TP, records: Sequence[Any]) -> Iterator[Message]:
        if tp.topic not in self.transport.bulk_topics:
            return (self._to_message(tp, record) for record in records)
        return (self._to_bundle(tp, chunk) for chunk in chunks(records))

    def _to_bundle(self, tp: TP, records: Sequence[ConsumerRecord[bytes, bytes]]) -> Bundle:
        last = records[-1]
        bundle = Bundle(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            None,
            None,
            None,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        bundle.records = records
        return bundle

    def ack(self, message: Message) -> bool:
        """Note that a message's work is done; one from before a rebalance counts for nothing."""
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
        """Go back to the committed offsets; what was delivered since then will be again."""
        self._windows.clear()
        await super().perform_seek()

    async def wait_empty(self) -> None:
        """Wait until what is in hand is done, and commit it.

        Faust collects garbage after each message to find those that were dropped on the way; with
        a model in memory each time takes long. Here it does so when nothing more gets done.
        """
        while not self.should_stop and self._unacked_messages:
            before = len(self._unacked_messages)
            await self._wait_for_ack(timeout=1)
            self._clean_unacked_messages()
            if len(self._unacked_messages) == before:
                gc.collect()
        await self.commit_and_end_transactions()

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that has begun; what was done since is still to be committed.

        Faust leaves it at that commit: the last one before a partition is given up would now and
        then do nothing, and images come twice.
        """
        while await super().maybe_wait_for_commit_to_finish():
            pass
        return False

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what is in hand, then forget the partitions.

        Also while the app stops, which waits for the same: a rebalance that comes then must not
        forget what is not committed yet.
        """
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        await self.wait_empty()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._windows.pop(tp, None)


class Transport(driver.Transport):
    """Kafka by way of the consumer above."""

    Consumer = Consumer

    def __init__(self, *args: Any, bulk_topics: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bulk_topics = frozenset(bulk_topics)
        self.held_topics: set[str] = set()

    def hold(self, topic: str) -> None:
        """Leave a topic's messages in Kafka until it is released."""
        self.held_topics.add(topic)

    def release(self, topic: str) -> None:
        """Deliver a held topic's messages again, within 50 ms."""
        self.held_topics.discard(topic)


def weight(message: Message) -> int:
    """Return how much a message counts in what is in hand."""
    if not isinstance(message, Bundle):
        return 1
    n_bytes = sum(len(record.value or b"") for record in message.records)
    return max(len(message.records), n_bytes * BUNDLE_RECORDS // BUNDLE_BYTES)


def chunks(
    records: Sequence[ConsumerRecord[bytes, bytes]],
) -> Iterator[Sequence[ConsumerRecord[bytes, bytes]]]:
    """Cut records into runs of at most 256 and about 4 MiB, so that what is in hand is bounded."""
    start, size = 0, 0
    for end, record in enumerate(records):
        length = len(record.value or b"")
        if end > start and (end - start >= BUNDLE_RECORDS or size + length > BUNDLE_BYTES):
            yield records[start:end]
            start, size = end, 0
        size += length
    if start < len(records):
        yield records[start:]
