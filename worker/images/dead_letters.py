"""The dead letter of a record that is not an image: its bytes untouched, the reason in headers."""

from aiokafka.structs import ConsumerRecord

from worker.errors import BadImage
from worker.kafka.dead_letters import explained_headers, headers_without_value, source_headers
from worker.kafka.publisher import Outgoing

__all__ = ["dead_letter", "without_value"]


def dead_letter(topic: str, record: ConsumerRecord[bytes, bytes], problem: BadImage) -> Outgoing:
    """Return the dead letter of a record; the record's own headers come first."""
    headers = explained_headers(
        record.headers,
        reason=problem.reason,
        error=str(problem),
        source=source_headers(record.topic, record.partition, record.offset),
    )
    return Outgoing(topic, record.key, record.value, headers)


def without_value(letter: Outgoing) -> Outgoing:
    """Return a dead letter as it is sent after the broker has refused it for its size."""
    return Outgoing(letter.topic, letter.key, None, headers_without_value(letter.headers))
