"""What becomes of a message that is no image: its bytes untouched, with the reason in headers."""

import time

from aiokafka.structs import ConsumerRecord

from worker.errors import BadImage
from worker.kafka.publisher import Outgoing

__all__ = ["dead_letter", "reason_of", "without_value"]

MAX_ERROR_CHARACTERS = 1_000


def dead_letter(topic: str, record: ConsumerRecord[bytes, bytes], problem: BadImage) -> Outgoing:
    """Return the dead letter of a record; the record's own headers come first."""
    reason = {
        "reason": problem.reason,
        "error": str(problem)[:MAX_ERROR_CHARACTERS],
        "source-topic": record.topic,
        "source-partition": str(record.partition),
        "source-offset": str(record.offset),
        "time": f"{time.time():.3f}",
    }
    headers = [*record.headers, *((name, text.encode()) for name, text in reason.items())]
    return Outgoing(topic, record.key, record.value, headers)


def reason_of(letter: Outgoing) -> str:
    """Return the reason that a dead letter carries; ours is the last header of that name."""
    return (dict(letter.headers)["reason"] or b"").decode()


def without_value(letter: Outgoing) -> Outgoing:
    """Return the letter as it is sent when the broker refuses it for its size.

    A message at the broker's limit has no room for the headers that are added here. Its value
    stays where it came from, as `source-topic`, `source-partition` and `source-offset` say.
    """
    return Outgoing(letter.topic, letter.key, None, [*letter.headers, ("value-omitted", b"true")])
