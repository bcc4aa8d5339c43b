"""Payloads to and from Google Pub/Sub, with google-cloud-pubsub's clients."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.subscriber.message import Message

from worker.streaming.errors import StreamingError
from worker.streaming.params import encode, kind, mapping, text, timeout_s

__all__ = ["consume_payload", "publish_payload"]

CANCEL_S = 10.0


def publish_payload(
    params: object, publisher: Any, payload: object, topic: str, **kwargs: Any
) -> str:
    """Publish a payload as JSON, wait until Pub/Sub has confirmed it, and return its message id.

    Args:
        params: the dict of settings: `PUB_SUB_PROJECT` (for a topic's short name), `TIMEOUT`
            (seconds to wait for the confirmation, 3 where it is not given).
        publisher: a `google.cloud.pubsub_v1.PublisherClient`.
        payload: a dict, such as `{"data": ..., "timestamp": time.time(), "image": img.tolist()}`.
        topic: `python-tester` or `projects/my-project/topics/python-tester`.
        **kwargs: go to the client's `publish`: ordering_key, retry, timeout, attributes.

    Raises:
        StreamingError: the topic does not exist, the confirmation does not come in time, the
            message is refused, or an argument is not what it has to be.
    """
    settings = mapping(params)
    timeout = timeout_s(settings)
    if not isinstance(publisher, PublisherClient):
        raise StreamingError(
            "publisher: expected a google.cloud.pubsub_v1.PublisherClient, got " + kind(publisher)
        )
    path = full_name(settings, "topics", topic)
    data = encode(payload)
    with explained(path, timeout):
        return str(publisher.publish(path, data, **kwargs).result(timeout=timeout))


def consume_payload(
    params: object,
    subscription: str,
    callback: Callable[[Message], object],
    subscriber: Any,
    **kwargs: Any,
) -> None:
    """Give each message of a subscription to `callback`, which acks it, for `TIMEOUT` seconds.

    Args:
        params: the dict of settings: `PUB_SUB_PROJECT` (for a subscription's short name),
            `TIMEOUT` (seconds, 3 where it is not given; None: until an error or Ctrl-C).
        subscription: `python-tester-sub` or `projects/my-project/subscriptions/python-tester-sub`.
        callback: gets one message at a time, in a thread of the client's; a message that it does
            not ack comes again. What it raises ends this and is raised here.
        subscriber: a `google.cloud.pubsub_v1.SubscriberClient`; it stays open.
        **kwargs: go to the client's `subscribe`: flow_control, scheduler, ...

    Raises:
        StreamingError: the subscription does not exist, Pub/Sub ends the stream, or an argument
            is not what it has to be.
    """
    settings = mapping(params)
    timeout = timeout_s(settings)
    if not isinstance(subscriber, SubscriberClient):
        raise StreamingError(
            "subscriber: expected a google.cloud.pubsub_v1.SubscriberClient, got "
            + kind(subscriber)
        )
    if not callable(callback):
        raise StreamingError(f"callback: expected a function of one message, got {kind(callback)}")
    path = full_name(settings, "subscriptions", subscription)
    future = subscriber.subscribe(path, callback=callback, **kwargs)
    try:
        with explained(path, None):
            future.result(timeout=timeout)
    except TimeoutError:
        if future.done():  # the callback's own
            raise
    finally:
        future.cancel()
        with contextlib.suppress(Exception):  # raised above, where there was one
            future.result(timeout=CANCEL_S)


@contextlib.contextmanager
def explained(path: str, timeout: float | None) -> Iterator[None]:
    """Turn the client's exceptions into StreamingError with the remedy."""
    try:
        yield
    except NotFound as error:
        raise StreamingError(f"{path} does not exist; create it: {creation(path)}") from error
    except TimeoutError as error:
        if timeout is None:
            raise
        raise StreamingError(
            f'{path}: no confirmation within params["TIMEOUT"] = {timeout:g} s from {server()}; '
            "look whether it can be reached, or raise TIMEOUT"
        ) from error
    except GoogleAuthError as error:
        raise StreamingError(
            f"{path}: the credentials are not accepted ({error}); set "
            "GOOGLE_APPLICATION_CREDENTIALS to a service account's file that is valid"
        ) from error
    except (GoogleAPICallError, RetryError) as error:
        raise StreamingError(f"{path}: {server()} answers: {error}") from error


def full_name(params: Mapping[str, Any], collection: str, name: object) -> str:
    """Return `projects/P/<collection>/<name>`; a name that is full already stays as it is."""
    if not isinstance(name, str) or not name:
        raise StreamingError(f"{collection[:-1]}: expected its name, got {name!r:.100}")
    if re.fullmatch(f"projects/[^/]+/{collection}/[^/]+", name):
        return name
    if "/" in name:
        raise StreamingError(
            f"{collection[:-1]}: {name!r} is neither a name nor projects/PROJECT/{collection}/NAME"
        )
    return f"projects/{text(params, 'PUB_SUB_PROJECT')}/{collection}/{name}"


def creation(path: str) -> str:
    """Return the command that creates a topic or subscription."""
    _, project, collection, name = path.split("/")
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    if emulator:
        body = ' -H "Content-Type: application/json" -d \'{"topic": "projects/%s/topics/TOPIC"}\''
        data = body % project if collection == "subscriptions" else ""
        return f"curl -X PUT http://{emulator}/v1/{path}{data}"
    option = " --topic TOPIC" if collection == "subscriptions" else ""
    return f"gcloud pubsub {collection} create {name} --project {project}{option}"


def server() -> str:
    """Return who is spoken to, for errors."""
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    return f"the emulator at {emulator}" if emulator else "Pub/Sub"
