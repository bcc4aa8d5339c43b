"""Payloads to and from Kafka, with kafka-python's clients or with confluent-kafka's."""

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from worker.streaming.errors import StreamingError
from worker.streaming.params import encode, kind, mapping

__all__ = ["Published", "ReceivedMessage", "consume_payload", "publish_payload"]

CONFIRM_S = 30.0
ASK_S = 3.0
POLL_S = 0.1

NO_SUCH_TOPIC = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}  # noqa: SLF001 - the public code
)


class Published(NamedTuple):
    """Where the broker has put a message."""

    topic: str
    partition: int
    offset: int


class ReceivedMessage(NamedTuple):
    """A message of confluent-kafka with the names that kafka-python gives its parts."""

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
) -> Published:
    """Send a payload as JSON and wait until the broker has confirmed it.

    Args:
        params: the dict of settings; `KAFKA_HOST` is named in errors.
        publisher: kafka-python's `KafkaProducer` (its own `value_serializer`, where it has one,
            gets the dict) or confluent-kafka's `Producer`.
        payload: a dict, such as `{"data": ..., "timestamp": time.time(), "image": img.tolist()}`.
        topic: its name.
        **kwargs: go to the client's `send` or `produce`: key, headers, partition, ...

    Raises:
        StreamingError: the topic does not exist, the broker does not answer or refuses the
            message, or an argument is not what it has to be.
    """
    settings = mapping(params)
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
        f"got {kind(publisher)}"
    )


def publish_with_confluent(
    producer: confluent_kafka.Producer,
    value: bytes,
    topic: str,
    host: str,
    kwargs: dict[str, Any],
) -> Published:
    """Produce and poll until the report on this very message is there."""
    reports: list[tuple[KafkaError | None, Message]] = []
    theirs = kwargs.pop("on_delivery", kwargs.pop("callback", None))

    def report(error: KafkaError | None, message: Message) -> None:
        reports.append((error, message))
        if theirs is not None:
            theirs(error, message)

    try:
        producer.produce(topic, value=value, on_delivery=report, **kwargs)
    except KafkaException as error:
        raise refused(topic, host, error.args[0].str()) from error
    started = time.monotonic()
    is_asked = False
    while not reports:
        producer.poll(POLL_S)
        seconds = time.monotonic() - started
        if seconds > ASK_S and not is_asked:  # librdkafka itself says nothing for 30 s or more
            is_asked = True
            require_topic(producer, topic, host)
        if seconds > CONFIRM_S:
            raise StreamingError(
                f"topic {topic!r}: {host} did not confirm the message within {CONFIRM_S:g} s"
            )
    refusal, message = reports[0]
    if refusal is not None:
        if refusal.code() in NO_SUCH_TOPIC:
            raise missing_topic(topic, host)
        raise refused(topic, host, refusal.str())
    return Published(topic, message.partition() or 0, message.offset() or 0)


def publish_with_kafka_python(
    producer: Any, value: object, topic: str, host: str, kwargs: dict[str, Any]
) -> Published:
    """Send and wait for the future; kafka-python is the user's, and not imported here."""
    try:
        metadata = producer.send(topic, value=value, **kwargs).get(timeout=CONFIRM_S)
    except Exception as error:
        name = type(error).__name__
        if name in {"TypeError", "AssertionError", "ValueError"}:
            raise  # an argument of the caller's, and the message says which
        if name == "UnknownTopicOrPartitionError":
            raise missing_topic(topic, host) from error
        if name == "KafkaTimeoutError":  # all that kafka-python says, whichever of the two it is
            problem = f"{missing_topic(topic, host)}. Or the broker does not answer: {error}"
            raise StreamingError(problem) from error
        raise refused(topic, host, f"{name}: {error}") from error
    return Published(metadata.topic, metadata.partition, metadata.offset)


def consume_payload(
    params: object,
    consumer: Any,
    topic: str,
    callback: Callable[[Any], object],
    **kwargs: Any,
) -> None:
    """Give each message of a topic to `callback`, whose `.value` are its bytes.

    Returns when the callback returns False, or when the `consumer_timeout_ms` of kafka-python has
    passed without a message. The consumer stays open.

    Args:
        params: the dict of settings; `KAFKA_HOST` is named in errors.
        consumer: kafka-python's `KafkaConsumer`, or confluent-kafka's `Consumer`, whose messages
            come as `ReceivedMessage`. A consumer that has its partitions assigned keeps them.
        topic: its name.
        callback: gets one message at a time, in the calling thread; what it raises ends this.
        **kwargs: go to the client's `subscribe`.

    Raises:
        StreamingError: the topic does not exist, the broker reports an error that will not pass,
            or an argument is not what it has to be.
    """
    settings = mapping(params)
    check_topic(topic)
    if not callable(callback):
        raise StreamingError(f"callback: expected a function of one message, got {kind(callback)}")
    host = str(settings.get("KAFKA_HOST", "the broker"))
    for message in messages(consumer, topic, host, kwargs):
        if callback(message) is False:
            return


def messages(consumer: Any, topic: str, host: str, kwargs: dict[str, Any]) -> Iterator[Any]:
    """Return a consumer's messages, subscribed to the topic where it is not yet."""
    if isinstance(consumer, confluent_kafka.Consumer):
        require_topic(consumer, topic, host)
        if not consumer.assignment():
            consumer.subscribe([topic], **kwargs)
        return confluent_messages(consumer, topic, host)
    if callable(getattr(consumer, "subscribe", None)) and hasattr(consumer, "__next__"):
        if topic not in consumer.topics():
            raise missing_topic(topic, host)
        if topic not in (consumer.subscription() or ()) and not consumer.assignment():
            consumer.subscribe([topic], **kwargs)
        # kafka-python joins its group at once, and again when it then learns of the partitions.
        consumer.partitions_for_topic(topic)
        return iter(consumer)
    raise StreamingError(
        "consumer: expected a kafka.KafkaConsumer or a confluent_kafka.Consumer, "
        f"got {kind(consumer)}"
    )


def confluent_messages(
    consumer: confluent_kafka.Consumer, topic: str, host: str
) -> Iterator[ReceivedMessage]:
    """Poll for ever; errors that librdkafka recovers from by itself are left to it."""
    while True:
        message = consumer.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield received(message)
        elif error.code() in NO_SUCH_TOPIC:
            raise missing_topic(topic, host)
        elif error.fatal() or not (error.retriable() or error.code() < 0):
            # its own codes, below 0, are passing conditions: a broker down, a partition's end
            raise StreamingError(f"topic {topic!r}: {host} reports: {error.str()}")


def received(message: Message) -> ReceivedMessage:
    """Return a message of confluent-kafka in kafka-python's terms."""
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
    """Raise StreamingError when a topic is no text; payload and topic are swapped easily."""
    if not isinstance(topic, str) or not topic:
        raise StreamingError(f"topic: expected its name, got {topic!r:.100}")


def require_topic(
    client: confluent_kafka.Producer | confluent_kafka.Consumer, topic: str, host: str
) -> None:
    """Raise StreamingError when the broker does not answer, or has no such topic."""
    try:
        found = client.list_topics(topic, timeout=ASK_S).topics[topic]
    except KafkaException as error:
        raise StreamingError(
            f"{host} does not answer ({error.args[0].str()}); start a broker "
            "(scripts/start_kafka.sh) or correct the client's bootstrap.servers"
        ) from error
    if found.error is not None:
        if found.error.code() in NO_SUCH_TOPIC:
            raise missing_topic(topic, host)
        raise refused(topic, host, found.error.str())


def missing_topic(topic: str, host: str) -> StreamingError:
    """Return the error for a topic that is not there, with what creates it."""
    return StreamingError(
        f"topic {topic!r} does not exist on {host}; create it: "
        f"kafka-topics.sh --bootstrap-server {host} --create --topic {topic} --partitions 8, or "
        "confluent_kafka.admin.AdminClient({'bootstrap.servers': ...}).create_topics("
        f"[NewTopic({topic!r}, 8)])"
    )


def refused(topic: str, host: str, reason: str) -> StreamingError:
    """Return the error for a message that was not taken."""
    return StreamingError(f"topic {topic!r}: {host} did not take the message: {reason}")
