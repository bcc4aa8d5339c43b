"""The offsets of the partitions that a route reads: which are done, and which are committed."""

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition

from worker.bridge.flow.lanes import Span
from worker.kafka.offset_window import OffsetWindow

__all__ = ["Offsets"]


class Offsets:
    """One window per partition that is assigned to the route; used by one thread."""

    def __init__(self, topic: str) -> None:
        """Begin without partitions."""
        self._topic = topic
        self._windows: dict[int, OffsetWindow] = {}
        self._committed: dict[int, int] = {}

    def __contains__(self, partition: int | None) -> bool:
        return partition in self._windows

    def assign(self, partitions: Iterable[int]) -> None:
        """Begin to count partitions that the route has been given."""
        for partition in partitions:
            self._windows[partition] = OffsetWindow()
            self._committed.pop(partition, None)

    def revoke(self, partitions: Iterable[int]) -> None:
        """Forget partitions that the route no longer has."""
        for partition in partitions:
            self._windows.pop(partition, None)

    def open_span(self, partition: int, last_offset: int, n_messages: int) -> Span:
        """Return a span for messages that were read; nothing past it is committed before it ends.

        Args:
            partition: A partition that is assigned to the route.
            last_offset: Offset of the last message.
            n_messages: How many messages have to be done until the span is.
        """
        span = Span(self._windows[partition], last_offset, n_messages)
        span.window.open(last_offset)
        return span

    def to_commit(self, *, is_last: bool) -> list[TopicPartition]:
        """Return the positions that have moved since they were committed.

        Args:
            is_last: Return the others too, because an earlier commit may not have arrived.
        """
        return [
            TopicPartition(self._topic, partition, window.position)
            for partition, window in self._windows.items()
            if window.position is not None
            and (is_last or window.position != self._committed.get(partition))
        ]

    def note_committed(self, positions: Iterable[TopicPartition]) -> None:
        """Note positions that were committed."""
        self._committed |= {one.partition: one.offset for one in positions}

    def lag(self, consumer: Consumer) -> int:
        """Return how many messages are not done yet, as far as the consumer knows."""
        lag = 0
        for partition, window in self._windows.items():
            one = TopicPartition(self._topic, partition)
            _, high = consumer.get_watermark_offsets(one, cached=True) or (0, 0)
            lag += max(0, high - (window.position or 0)) if high > 0 else 0
        return lag
