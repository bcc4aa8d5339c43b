"""Payloads to and from Google Pub/Sub, with the clients of google-cloud-pubsub."""

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
from worker.streaming.params import as_mapping, class_name, encode, text_param, timeout_s

__all__ = ["consume_payload", "publish_payload"]

CANCEL_TIMEOUT_S = 10.0


def publish_payload(
    params: object, publisher: Any, payload: object, topic: str, **kwargs: Any
) -> str:
    """Publish a payload as JSON, wait until Pub/Sub has confirmed it, and return its message id.

    Args:
        params: the dict of settings: `PUB_SUB_PROJECT` (for a topic's short name), `TIMEOUT`
            (seconds to wait for the confirmation, 3 by default).
        publisher: a `google.cloud.pubsub_v1.PublisherClient`.
        payload: a dict, such as `{"data": ..., "timestamp": time.time(), "image": img.tolist()}`.
        topic: `python-tester` or `projects/my-project/topics/python-tester`.
        **kwargs: arguments for the client's `publish`: ordering_key, retry, timeout, attributes.

    Raises:
        StreamingError: the topic does not exist, the confirmation does not come in time, the
            message is refused, or an argument has the wrong type.
    """
    settings = as_mapping(params)
    timeout = timeout_s(settings)
    if not isinstance(publisher, PublisherClient):
        raise StreamingError(
            "publisher: expected a google.cloud.pubsub_v1.PublisherClient, got "
            + class_name(publisher)
        )
    path = full_name(settings, "topics", topic)
    data = encode(payload)
    with explain_errors(path, timeout):
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
            `TIMEOUT` (seconds, 3 by default; None: until an error or Ctrl-C).
        subscription: `python-tester-sub` or `projects/my-project/subscriptions/python-tester-sub`.
        callback: gets one message at a time, in a thread of the client; a message that it does not
            ack comes again. An error that it raises ends the consuming and reaches the caller.
        subscriber: a `google.cloud.pubsub_v1.SubscriberClient`; it stays open.
        **kwargs: arguments for the client's `subscribe`: flow_control, scheduler, ...

    Raises:
        StreamingError: the subscription does not exist, Pub/Sub ends the stream, or an argument
            has the wrong type.
    """
    settings = as_mapping(params)
    timeout = timeout_s(settings)
    if not isinstance(subscriber, SubscriberClient):
        raise StreamingError(
            "subscriber: expected a google.cloud.pubsub_v1.SubscriberClient, got "
            + class_name(subscriber)
        )
    if not callable(callback):
        raise StreamingError(
            f"callback: expected a function of one message, got {class_name(callback)}"
        )
    path = full_name(settings, "subscriptions", subscription)
    pull = subscriber.subscribe(path, callback=callback, **kwargs)
    with explain_errors(path, None):
        run_pull(pull, timeout)


def run_pull(pull: Any, timeout: float | None) -> None:
    """Let a streaming pull run for some seconds (None: without end), and end it."""
    try:
        pull.result(timeout=timeout)
    except TimeoutError:
        if pull.done():  # the callback raised it
            raise
    finally:
        pull.cancel()
        with contextlib.suppress(Exception):  # an error of the pull was raised above
            pull.result(timeout=CANCEL_TIMEOUT_S)


@contextlib.contextmanager
def explain_errors(path: str, timeout: float | None) -> Iterator[None]:
    """Turn the exceptions of the client into StreamingError, with the remedy."""
    try:
        yield
    except NotFound as error:
        raise StreamingError(f"{path} does not exist; create it: {creation(path)}") from error
    except TimeoutError as error:
        if timeout is None:
            raise
        raise StreamingError(
            f'{path}: no confirmation within params["TIMEOUT"] = {timeout:g} s from {server()}; '
            "check that it can be reached, or set TIMEOUT to more seconds"
        ) from error
    except GoogleAuthError as error:
        raise StreamingError(
            f"{path}: the credentials are not accepted ({error}); set "
            "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account that may use it"
        ) from error
    except (GoogleAPICallError, RetryError) as error:
        raise StreamingError(f"{path}: {server()} answers: {error}") from error


def full_name(params: Mapping[str, Any], collection: str, name: object) -> str:
    """Return `projects/P/<collection>/<name>`; a full name stays as it is."""
    if not isinstance(name, str) or not name:
        raise StreamingError(f"{collection[:-1]}: expected its name, got {name!r:.100}")
    if re.fullmatch(f"projects/[^/]+/{collection}/[^/]+", name):
        return name
    if "/" in name:
        raise StreamingError(
            f"{collection[:-1]}: {name!r} is neither a name nor projects/PROJECT/{collection}/NAME"
        )
    return f"projects/{text_param(params, 'PUB_SUB_PROJECT')}/{collection}/{name}"


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
    """Return the name of the server, for errors."""
    emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
    return f"the emulator at {emulator}" if emulator else "Pub/Sub"
