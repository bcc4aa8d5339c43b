"""The form of a dead letter: a message as it came, and headers that explain why nobody took it.

Every room that writes dead letters uses these headers, so that one reader understands all of them.
"""

import time
from collections.abc import Mapping, Sequence

__all__ = [
    "Headers",
    "explained_headers",
    "headers_without_value",
    "reason_of",
    "source_headers",
]

Headers = Sequence[tuple[str, bytes | None]]
"""The headers of a Kafka message; a name may repeat, and a value may be null."""

MAX_ERROR_CHARACTERS = 1_000
VALUE_OMITTED = ("value-omitted", b"true")


def explained_headers(
    headers: Headers, *, reason: str, error: str, source: Mapping[str, str]
) -> list[tuple[str, bytes | None]]:
    """Return the message's own headers, followed by those that explain the dead letter.

    Args:
        headers: Headers of the message as it came.
        reason: One word or two for programs, such as `too-large`.
        error: One sentence for people; cut after 1,000 characters.
        source: Headers that name the place where the message came from, such as `source-topic`.
    """
    explanation = {
        "reason": reason,
        "error": error[:MAX_ERROR_CHARACTERS],
        **source,
        "time": f"{time.time():.3f}",
    }
    return [*headers, *((name, text.encode()) for name, text in explanation.items())]


def source_headers(topic: str | None, partition: int | None, offset: int | None) -> dict[str, str]:
    """Return the headers that name the place of a Kafka message."""
    return {
        "source-topic": str(topic),
        "source-partition": str(partition),
        "source-offset": str(offset),
    }


def headers_without_value(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Return the headers of a dead letter that is sent without its value.

    A message at the broker's limit has no room for the headers that explain it. Such a dead letter
    is sent once more with a null value; the value stays where the source headers say.
    """
    return [*headers, VALUE_OMITTED]


def reason_of(headers: Headers) -> str:
    """Return the reason of a dead letter; ours is the last header of that name."""
    return (dict(headers)["reason"] or b"").decode()
