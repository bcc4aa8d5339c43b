"""Google Pub/Sub over gRPC, in requests of whole batches and without a client's threads.

Google's `publish()` and `subscribe()` spend 40 microseconds or more per message; in a request of
1,000 messages the cost per message is close to nothing.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google.auth
import grpc
from google.auth.exceptions import GoogleAuthError
from google.oauth2 import service_account
from google.protobuf import empty_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from worker.bridge.flow.errors import BridgeError
from worker.bridge.messages.protobuf import varint

__all__ = ["PubSub", "explain"]

SCOPES = ("https://www.googleapis.com/auth/pubsub",)
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)
REQUEST_IDS = 1000
BATCH_TIMEOUT_S = 60.0
"""For requests that carry a batch: one that is given up too early is sent twice."""
STREAM_S = 1500.0
"""Pub/Sub itself ends a stream after half an hour."""
EMULATOR_STREAM_S = 10.0
"""The emulator (0.8.20) does not notice when a client dies, and goes on giving messages to its
streams: only their deadline ends them."""
STREAM_MARGIN_S = 5.0

MESSAGES_TAG = b"\x12"  # field 2, with a length
StreamingPullRequest = types.StreamingPullRequest.pb()
PublishRequest = types.PublishRequest.pb()


class PubSub:
    """A channel to Pub/Sub, or to the emulator that PUBSUB_EMULATOR_HOST names."""

    def __init__(self, credentials_file: Path | None = None, *, timeout_s: float = 10.0) -> None:
        """Open the channel; nothing is sent yet.

        Args:
            credentials_file: A service account's JSON file; None for the default credentials.
            timeout_s: Seconds within which Pub/Sub has to answer a request that carries no batch.

        Raises:
            BridgeError: no credentials are found, or the file does not hold a service account.
        """
        self._channel = open_channel(credentials_file)
        self._timeout_s = timeout_s
        self.stream_s = EMULATOR_STREAM_S if emulator() else STREAM_S
        """How long a stream is read; then it is closed, and another one opened."""
        publisher, subscriber = "google.pubsub.v1.Publisher", "google.pubsub.v1.Subscriber"
        self._publish = self._channel.unary_unary(
            f"/{publisher}/Publish",
        )  # the request is bytes already, and nobody needs the ids in the answer
        self._get_topic = self._call(publisher, "GetTopic", types.GetTopicRequest, types.Topic)
        self._create_topic = self._call(publisher, "CreateTopic", types.Topic, types.Topic)
        self._get_subscription = self._call(
            subscriber, "GetSubscription", types.GetSubscriptionRequest, types.Subscription
        )
        self._create_subscription = self._call(
            subscriber, "CreateSubscription", types.Subscription, types.Subscription
        )
        self._acknowledge = self._call(subscriber, "Acknowledge", types.AcknowledgeRequest, None)
        self._extend = self._call(
            subscriber, "ModifyAckDeadline", types.ModifyAckDeadlineRequest, None
        )
        self._pull = self._channel.stream_stream(
            f"/{subscriber}/StreamingPull",
            request_serializer=StreamingPullRequest.SerializeToString,
            response_deserializer=types.StreamingPullResponse.pb().FromString,
        )

    def _call(self, service: str, method: str, request: Any, response: Any) -> Any:
        answer = empty_pb2.Empty if response is None else response.pb()
        return self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=request.pb().SerializeToString,
            response_deserializer=answer.FromString,
        )

    def close(self) -> None:
        """Close the channel; requests under way are cancelled."""
        self._channel.close()

    def publish(
        self, topic: str, messages: Sequence[bytes], on_answer: Callable[[Any], None]
    ) -> None:
        """Publish up to 1,000 serialised messages; a gRPC thread gives the call to `on_answer`."""
        call = self._publish.future(
            publish_request(topic, messages),
            timeout=BATCH_TIMEOUT_S,
            metadata=routing_metadata("topic", topic),
        )
        call.add_done_callback(on_answer)

    def acknowledge(
        self, subscription: str, ack_ids: Sequence[str], on_answer: Callable[[Any], None]
    ) -> None:
        """Acknowledge messages; a gRPC thread gives the call to `on_answer`."""
        call = self._acknowledge.future(
            types.AcknowledgeRequest.pb()(subscription=subscription, ack_ids=ack_ids),
            timeout=BATCH_TIMEOUT_S,
            metadata=routing_metadata("subscription", subscription),
        )
        call.add_done_callback(on_answer)

    def extend(self, subscription: str, ack_ids: Sequence[str], seconds: int) -> list[Any]:
        """Set the time left to acknowledge messages, 0 to give them back; return the calls."""
        requests = [
            types.ModifyAckDeadlineRequest.pb()(
                subscription=subscription,
                ack_ids=ack_ids[start : start + REQUEST_IDS],
                ack_deadline_seconds=seconds,
            )
            for start in range(0, len(ack_ids), REQUEST_IDS)
        ]
        metadata = routing_metadata("subscription", subscription)
        calls = [
            self._extend.future(request, timeout=self._timeout_s, metadata=metadata)
            for request in requests
        ]
        for call in calls:
            call.add_done_callback(keep_alive)
        return calls

    def streaming_pull(self, subscription: str, requests: Iterator[Any]) -> Any:
        """Return the responses of a streaming pull; `cancel()` ends it."""
        return self._pull(
            requests,
            timeout=self.stream_s + STREAM_MARGIN_S,
            metadata=routing_metadata("subscription", subscription),
        )

    def require_topic(self, path: str, *, create: bool) -> None:
        """Check that a topic exists, or create it.

        Raises:
            BridgeError: it does not exist, Pub/Sub does not answer, or refuses the credentials.
        """
        try:
            self._get_topic(types.GetTopicRequest.pb()(topic=path), timeout=self._timeout_s)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND or not create:
                raise self._explain(path, error) from error
            self._create(self._create_topic, types.Topic.pb()(name=path), path)

    def topic_of(self, path: str, *, create_on: str | None) -> str:
        """Return the topic of a subscription, which is created on `create_on` when it is missing.

        Raises:
            BridgeError: it does not exist, Pub/Sub does not answer, or refuses the credentials.
        """
        request = types.GetSubscriptionRequest.pb()(subscription=path)
        try:
            return str(self._get_subscription(request, timeout=self._timeout_s).topic)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND or create_on is None:
                raise self._explain(path, error) from error
        wanted = types.Subscription.pb()(
            name=path, topic=create_on, enable_message_ordering=True, ack_deadline_seconds=60
        )
        self._create(self._create_subscription, wanted, path)
        return create_on

    def _create(self, call: Any, wanted: Any, path: str) -> None:
        try:
            call(wanted, timeout=self._timeout_s)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise self._explain(path, error) from error

    def _explain(self, path: str, error: Any) -> BridgeError:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return BridgeError(
                f"{path}: Pub/Sub did not answer within {self._timeout_s:g} s; check the network, "
                "or set TIMEOUT to more seconds"
            )
        return explain(path, error)


def open_channel(credentials_file: Path | None) -> Any:
    """Return a gRPC channel with the credentials that the environment gives."""
    if host := emulator():
        return grpc.insecure_channel(host, options=OPTIONS)
    try:
        if credentials_file is None:
            credentials, _ = google.auth.default(scopes=SCOPES)
        else:
            credentials = service_account.Credentials.from_service_account_file(  # type: ignore[no-untyped-call]
                str(credentials_file), scopes=SCOPES
            )
    except (GoogleAuthError, OSError, ValueError) as error:
        what = f" {str(credentials_file)!r}" if credentials_file else ""
        kind = "not a JSON file: " if isinstance(error, json.JSONDecodeError) else ""
        raise BridgeError(
            f"GOOGLE_APPLICATION_CREDENTIALS{what}: {kind}{error}; set it to a service "
            "account's JSON file, or PUBSUB_EMULATOR_HOST to an emulator (scripts/start_pubsub.sh)"
        ) from error
    return PublisherGrpcTransport.create_channel(
        "pubsub.googleapis.com:443",
        credentials=credentials,
        options=OPTIONS,
    )


def publish_request(topic: str, messages: Sequence[bytes]) -> bytes:
    """Return the PublishRequest of serialised messages; protobuf would copy each twice more.

    The form is https://protobuf.dev/programming-guides/encoding: each element of `messages`, the
    request's field 2, is a tag, a length and the bytes.
    """
    parts = [PublishRequest(topic=topic).SerializeToString()]
    for message in messages:
        parts += (MESSAGES_TAG, varint(len(message)), message)
    return b"".join(parts)


def emulator() -> str | None:
    """Return the address of the emulator to be used in place of Pub/Sub, None without one."""
    return os.environ.get("PUBSUB_EMULATOR_HOST") or None


def explain(path: str, error: Any) -> BridgeError:
    """Return the error of a call, with the remedy."""
    code, details = error.code(), error.details()
    _, project, collection, name = path.split("/")
    if code is grpc.StatusCode.NOT_FOUND:
        option = " --topic TOPIC" if collection == "subscriptions" else ""
        remedy = (
            f"create it (gcloud pubsub {collection} create {name} --project {project}{option}) "
            "or set create = true on the route"
        )
        return BridgeError(f"{path} does not exist; {remedy}")
    has_no_token = "metadata from plugin failed" in str(details)  # google-auth got none
    if has_no_token or code in (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    ):
        return BridgeError(
            f"{path}: the credentials are wrong, expired or lack the right ({details}); set "
            "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account that may use it"
        )
    return BridgeError(f"{path}: Pub/Sub does not answer ({code.name}: {details})")


def keep_alive(_call: Any) -> None:
    """Do nothing, as a callback: gRPC cancels a call without one when nobody else holds it."""


def routing_metadata(kind: str, path: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata by which Pub/Sub routes a request for a topic or subscription."""
    return (("x-goog-request-params", f"{kind}={path}"),)
