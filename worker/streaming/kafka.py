"""Payloads to and from Kafka, with the clients of kafka-python or confluent-kafka."""

import time
from collections.abc import Callable, Iterator, Sized
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from worker.streaming.errors import StreamingError
from worker.streaming.params import as_mapping, class_name, encode

__all__ = ["MessagePosition", "ReceivedMessage", "consume_payload", "publish_payload"]

CONFIRM_TIMEOUT_S = 30.0
ASK_AFTER_S = METADATA_TIMEOUT_S = 3.0
POLL_S = 0.1

NO_SUCH_TOPIC = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - the public code
)


class MessagePosition(NamedTuple):
    """The place of a message that the broker has confirmed."""

    topic: str
    partition: int
    offset: int


class ReceivedMessage(NamedTuple):
    """A message of confluent-kafka whose parts have the names that kafka-python gives them."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since 1970."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def publish_payload(
    params: object, publisher: Any, payload: object, topic: str, **kwargs: Any
) -> MessagePosition:
    """Send a payload as JSON and wait until the broker has confirmed it.

    Args:
        params: the dict of settings; `KAFKA_HOST` is named in errors.
        publisher: kafka-python's `KafkaProducer` or confluent-kafka's `Producer`. A
            `KafkaProducer` with a `value_serializer` of its own gets the dict.
        payload: a dict, such as `{"data": ..., "timestamp": time.time(), "image": img.tolist()}`.
        topic: name of the topic.
        **kwargs: arguments for the client's `send` or `produce`: key, headers, partition, ...

    Raises:
        StreamingError: the topic does not exist, the broker does not answer or refuses the
            message, or an argument has the wrong type.
    """
    settings = as_mapping(params)
    value = encode(payload)
    check_topic(topic)
    host = str(settings.get("KAFKA_HOST", "the broker"))
    if isinstance(publisher, confluent_kafka.Producer):
        return publish_with_confluent(publisher, value, topic, host, kwargs)
    if callable(getattr(publisher, "send", None)):
        own = getattr(publisher, "config", {}).get("value_serializer")
        return publish_with_kafka_python(publisher, payload if own else value, topic, host, kwargs)
    raise StreamingError(
        "publisher: expected a kafka.KafkaProducer or a confluent_kafka.Producer, "
        f"got {class_name(publisher)}"
    )


def publish_with_confluent(
    producer: confluent_kafka.Producer,
    value: bytes,
    topic: str,
    host: str,
    kwargs: dict[str, Any],
) -> MessagePosition:
    """Produce a message and poll until the broker has reported on it."""
    reports: list[tuple[KafkaError | None, Message]] = []
    own_callback = kwargs.pop("on_delivery", kwargs.pop("callback", None))

    def report(error: KafkaError | None, message: Message) -> None:
        reports.append((error, message))
        if own_callback is not None:
            own_callback(error, message)

    try:
        producer.produce(topic, value=value, on_delivery=report, **kwargs)
    except KafkaException as error:
        raise refusal_error(topic, host, error.args[0].str()) from error
    await_report(producer, reports, topic, host)
    refusal, message = reports[0]
    if refusal is not None:
        if refusal.code() in NO_SUCH_TOPIC:
            raise missing_topic_error(topic, host)
        raise refusal_error(topic, host, refusal.str())
    return MessagePosition(topic, message.partition() or 0, message.offset() or 0)


def await_report(producer: confluent_kafka.Producer, reports: Sized, topic: str, host: str) -> None:
    """Poll until there is a report; ask for the topic when the broker is slow to report."""
    started = time.monotonic()
    is_asked = False
    while not reports:
        producer.poll(POLL_S)
        seconds = time.monotonic() - started
        if seconds > ASK_AFTER_S and not is_asked:  # librdkafka itself is silent for 30 s or more
            is_asked = True
            require_topic(producer, topic, host)
        if seconds > CONFIRM_TIMEOUT_S:
            raise StreamingError(
                f"topic {topic!r}: {host} did not confirm the message within "
                f"{CONFIRM_TIMEOUT_S:g} s; check that the broker can be reached and has room"
            )


def publish_with_kafka_python(
    producer: Any, value: object, topic: str, host: str, kwargs: dict[str, Any]
) -> MessagePosition:
    """Send and wait for the future; kafka-python belongs to the user and is not imported here."""
    try:
        metadata = producer.send(topic, value=value, **kwargs).get(timeout=CONFIRM_TIMEOUT_S)
    except Exception as error:
        name = type(error).__name__
        if name in {"TypeError", "AssertionError", "ValueError"}:
            raise  # an argument of the caller is wrong, and the message says which
        if name == "UnknownTopicOrPartitionError":
            raise missing_topic_error(topic, host) from error
        if name == "KafkaTimeoutError":  # kafka-python does not say which of the two it is
            problem = f"{missing_topic_error(topic, host)}. Or the broker does not answer: {error}"
            raise StreamingError(problem) from error
        raise refusal_error(topic, host, f"{name}: {error}") from error
    return MessagePosition(metadata.topic, metadata.partition, metadata.offset)


def consume_payload(
    params: object,
    consumer: Any,
    topic: str,
    callback: Callable[[Any], object],
    **kwargs: Any,
) -> None:
    """Give each message of a topic to `callback`; the message's `.value` is its bytes.

    Returns when the callback returns False, or when the `consumer_timeout_ms` of kafka-python has
    passed without a message. The consumer stays open.

    Args:
        params: the dict of settings; `KAFKA_HOST` is named in errors.
        consumer: kafka-python's `KafkaConsumer`, or confluent-kafka's `Consumer`, whose messages
            arrive as `ReceivedMessage`. A consumer whose partitions are assigned keeps them.
        topic: name of the topic.
        callback: gets one message at a time, in the calling thread; an error that it raises ends
            the consuming and reaches the caller.
        **kwargs: arguments for the client's `subscribe`.

    Raises:
        StreamingError: the topic does not exist, the broker reports an error that will not pass,
            or an argument has the wrong type.
    """
    settings = as_mapping(params)
    check_topic(topic)
    if not callable(callback):
        raise StreamingError(
            f"callback: expected a function of one message, got {class_name(callback)}"
        )
    host = str(settings.get("KAFKA_HOST", "the broker"))
    for message in messages(consumer, topic, host, kwargs):
        if callback(message) is False:
            return


def messages(consumer: Any, topic: str, host: str, kwargs: dict[str, Any]) -> Iterator[Any]:
    """Return a consumer's messages, after subscribing it to the topic if it is not yet."""
    if isinstance(consumer, confluent_kafka.Consumer):
        require_topic(consumer, topic, host)
        if not consumer.assignment():
            consumer.subscribe([topic], **kwargs)
        return confluent_messages(consumer, topic, host)
    if callable(getattr(consumer, "subscribe", None)) and hasattr(consumer, "__next__"):
        if topic not in consumer.topics():
            raise missing_topic_error(topic, host)
        if topic not in (consumer.subscription() or ()) and not consumer.assignment():
            consumer.subscribe([topic], **kwargs)
        # kafka-python joins its group at once, and again when it then learns of the partitions.
        consumer.partitions_for_topic(topic)
        return iter(consumer)
    raise StreamingError(
        "consumer: expected a kafka.KafkaConsumer or a confluent_kafka.Consumer, "
        f"got {class_name(consumer)}"
    )


def confluent_messages(
    consumer: confluent_kafka.Consumer, topic: str, host: str
) -> Iterator[ReceivedMessage]:
    """Poll for ever; librdkafka recovers from passing errors by itself."""
    while True:
        message = consumer.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield from_confluent(message)
        elif error.code() in NO_SUCH_TOPIC:
            raise missing_topic_error(topic, host)
        elif error.fatal() or not (error.retriable() or error.code() < 0):
            # its own codes, below 0, are passing conditions: a broker is down, a partition ends
            raise StreamingError(f"topic {topic!r}: {host} reports: {error.str()}")


def from_confluent(message: Message) -> ReceivedMessage:
    """Return a message of confluent-kafka with the names of kafka-python."""
    return ReceivedMessage(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        list(message.headers() or []),  # type: ignore[arg-type] # a list, whatever the stub allows
    )


def check_topic(topic: object) -> None:
    """Raise StreamingError when a topic is not a text; payload and topic are easily swapped."""
    if not isinstance(topic, str) or not topic:
        raise StreamingError(f"topic: expected its name, got {topic!r:.100}")


def require_topic(
    client: confluent_kafka.Producer | confluent_kafka.Consumer, topic: str, host: str
) -> None:
    """Raise StreamingError when the broker does not answer, or has no such topic."""
    try:
        found = client.list_topics(topic, timeout=METADATA_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        raise StreamingError(
            f"{host} does not answer ({error.args[0].str()}); start a broker "
            "(scripts/start_kafka.sh) or correct the client's bootstrap.servers"
        ) from error
    if found.error is not None:
        if found.error.code() in NO_SUCH_TOPIC:
            raise missing_topic_error(topic, host)
        raise refusal_error(topic, host, found.error.str())


def missing_topic_error(topic: str, host: str) -> StreamingError:
    """Return the error for a missing topic, with the command that creates it."""
    return StreamingError(
        f"topic {topic!r} does not exist on {host}; create it: "
        f"kafka-topics.sh --bootstrap-server {host} --create --topic {topic} --partitions 8, or "
        "confluent_kafka.admin.AdminClient({'bootstrap.servers': ...}).create_topics("
        f"[NewTopic({topic!r}, 8)])"
    )


def refusal_error(topic: str, host: str, reason: str) -> StreamingError:
    """Return the error for a message that the broker did not accept."""
    return StreamingError(f"topic {topic!r}: {host} did not accept the message: {reason}")
