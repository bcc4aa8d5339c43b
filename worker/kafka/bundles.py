"""Consecutive records of a partition as one message of Faust's, which spends much on each."""

from collections.abc import Iterator, Sequence

from aiokafka.structs import ConsumerRecord
from faust.types import TP, ConsumerMessage, Message

__all__ = ["BUNDLE_BYTES", "BUNDLE_RECORDS", "Bundle", "chunks", "load_of", "to_bundle"]

BUNDLE_RECORDS = 256
BUNDLE_BYTES = 4 * 1024 * 1024


class Bundle(ConsumerMessage):
    """Consecutive records of one partition as one message; its offset is the last one's."""

    records: Sequence[ConsumerRecord[bytes, bytes]]


def to_bundle(tp: TP, records: Sequence[ConsumerRecord[bytes, bytes]], generation: int) -> Bundle:
    """Return consecutive records as one message.

    Args:
        tp: Their partition.
        records: At least one.
        generation: Of the consumer's group, when they were fetched.
    """
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
        generation_id=generation,
    )
    bundle.records = records
    return bundle


def load_of(message: Message) -> int:
    """Return how much a message counts while it is pending: 1 per record, or per 16 KiB."""
    if not isinstance(message, Bundle):
        return 1
    n_bytes = sum(len(record.value or b"") for record in message.records)
    return max(len(message.records), n_bytes * BUNDLE_RECORDS // BUNDLE_BYTES)


def chunks(
    records: Sequence[ConsumerRecord[bytes, bytes]],
) -> Iterator[Sequence[ConsumerRecord[bytes, bytes]]]:
    """Cut records into runs of at most 256 records and about 4 MiB, to bound pending work."""
    start, size = 0, 0
    for end, record in enumerate(records):
        length = len(record.value or b"")
        if end > start and (end - start >= BUNDLE_RECORDS or size + length > BUNDLE_BYTES):
            yield records[start:end]
            start, size = end, 0
        size += length
    if start < len(records):
        yield records[start:]
