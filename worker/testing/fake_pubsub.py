"""A fake Pub/Sub in this process: a gRPC server for Google's clients, with faults to inject.

It follows the rules of Pub/Sub that programs meet (limits, deadlines, redelivery, order by key) and
is faster than any client. `python -m worker.testing.fake_pubsub` runs it as a program.
"""

import asyncio
import gc
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import click
import grpc
from google.protobuf import empty_pb2
from google.pubsub_v1 import types

from worker.bridge.messages.protobuf import list_of_bytes
from worker.testing.pubsub.faults import Faults
from worker.testing.pubsub.state import SubscriptionState, TopicState, refusal

__all__ = ["FakePubSub", "Faults"]

STREAM_MESSAGES = 1000
IDLE_S = 0.002
EXPIRY_S = 0.25
GC_OBJECTS = 100_000
STORM = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
PublishRequest = types.PublishRequest.pb()
SerialisedMessages = list_of_bytes(2)
"""The same request, with its messages serialised."""


class FakePubSub:
    """The server, from `start` to `stop` or inside a `with`; it stores nothing on disk."""

    def __init__(self, port: int = 0) -> None:
        """Take the port to listen on; 0 for a free one."""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-pubsub")
        self._server: Any = None
        self._sweeper: asyncio.Task[None] | None = None
        self.faults = Faults()
        self.topics: dict[str, TopicState] = {}
        self.subscriptions: dict[str, SubscriptionState] = {}
        self._ids = itertools.count(1)
        self.host = ""
        """`host:port`, the value for PUBSUB_EMULATOR_HOST."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on the loopback interface."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()

    def stop(self) -> None:
        """End every stream, and forget all topics and messages."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def create_topic(self, name: str) -> None:
        """Create `projects/P/topics/T`."""
        self.topics.setdefault(name, TopicState(name))

    def create_subscription(
        self, name: str, topic: str, *, ack_deadline_s: float = 10.0, is_ordered: bool = False
    ) -> None:
        """Create `projects/P/subscriptions/S` on a topic that exists."""
        if name not in self.subscriptions:
            state = SubscriptionState(name, topic, ack_deadline_s, is_ordered)
            self.subscriptions[name] = state
            self.topics[topic].subscriptions.append(state)

    async def _serve(self) -> None:
        options = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._publisher(), self._subscriber()))
        port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self.host = f"127.0.0.1:{port}"
        await self._server.start()
        self._sweeper = asyncio.create_task(self._sweep())

    async def _close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._server.stop(None)
        self._server = None  # gRPC's poller ends with the last server

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_S)
            for subscription in self.subscriptions.values():
                subscription.expire()

    def _publisher(self) -> Any:
        return grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Publisher",
            {
                "CreateTopic": unary(self._create_topic, types.Topic, types.Topic),
                "GetTopic": unary(self._get_topic, types.GetTopicRequest, types.Topic),
                "Publish": grpc.unary_unary_rpc_method_handler(
                    self._publish,
                    response_serializer=types.PublishResponse.pb().SerializeToString,
                ),
            },
        )

    def _subscriber(self) -> Any:
        return grpc.method_handlers_generic_handler(
            "google.pubsub.v1.Subscriber",
            {
                "CreateSubscription": unary(
                    self._create_subscription, types.Subscription, types.Subscription
                ),
                "GetSubscription": unary(
                    self._get_subscription, types.GetSubscriptionRequest, types.Subscription
                ),
                "Acknowledge": unary(self._acknowledge, types.AcknowledgeRequest, None),
                "ModifyAckDeadline": unary(self._extend, types.ModifyAckDeadlineRequest, None),
                "StreamingPull": grpc.stream_stream_rpc_method_handler(
                    self._streaming_pull,
                    request_deserializer=types.StreamingPullRequest.pb().FromString,
                ),
            },
        )

    async def _create_topic(self, request: Any, context: Any) -> Any:
        if request.name in self.topics:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Topic already exists")
        self.create_topic(request.name)
        return request

    async def _get_topic(self, request: Any, context: Any) -> Any:
        await self._topic(request.topic, context)
        return types.Topic.pb()(name=request.topic)

    async def _create_subscription(self, request: Any, context: Any) -> Any:
        await self._topic(request.topic, context)
        if request.name in self.subscriptions:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Subscription already exists")
        self.create_subscription(
            request.name,
            request.topic,
            ack_deadline_s=request.ack_deadline_seconds or 10.0,
            is_ordered=request.enable_message_ordering,
        )
        return request

    async def _get_subscription(self, request: Any, context: Any) -> Any:
        state = await self._subscription(request.subscription, context)
        return types.Subscription.pb()(
            name=state.name,
            topic=state.topic,
            ack_deadline_seconds=int(state.ack_deadline_s),
            enable_message_ordering=state.is_ordered,
        )

    async def _publish(self, serialised: bytes, context: Any) -> Any:
        request = PublishRequest.FromString(serialised)
        topic = await self._topic(request.topic, context)
        faults = self.faults
        if faults.publish_delay_s:
            await asyncio.sleep(faults.publish_delay_s)
        if faults.publish_errors:
            await context.abort(faults.publish_errors.pop(0), "injected")
        wires = SerialisedMessages.FromString(serialised).items
        reason = refusal(request.messages, wires)
        if reason is None and faults.refuse and any(map(faults.refuse, request.messages)):
            reason = "injected: this message is refused"
        if reason is not None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        ordering_key = request.messages[0].ordering_key
        ids = await serve_or_fail(
            faults.publish_error_rate, lambda: topic.take(wires, ordering_key, self._ids), context
        )
        return types.PublishResponse.pb()(message_ids=ids)

    async def _acknowledge(self, request: Any, context: Any) -> Any:
        state = await self._subscription(request.subscription, context)
        if self.faults.acknowledge_delay_s:
            await asyncio.sleep(self.faults.acknowledge_delay_s)
        rate = self.faults.acknowledge_error_rate
        await serve_or_fail(rate, lambda: state.acknowledge(request.ack_ids), context)
        return empty_pb2.Empty()

    async def _extend(self, request: Any, context: Any) -> Any:
        state = await self._subscription(request.subscription, context)
        rate, seconds = self.faults.extend_error_rate, request.ack_deadline_seconds
        await serve_or_fail(rate, lambda: state.extend(request.ack_ids, seconds), context)
        return empty_pb2.Empty()

    async def _streaming_pull(self, requests: Any, context: Any) -> AsyncIterator[bytes]:
        first = await anext(aiter(requests))
        state = await self._subscription(first.subscription, context)
        if random.random() < self.faults.stream_error_rate:
            await context.abort(random.choice(STORM), "injected: no stream")
        if first.stream_ack_deadline_seconds:
            state.ack_deadline_s = first.stream_ack_deadline_seconds
        limit = first.max_outstanding_messages
        started = time.monotonic()
        reading = asyncio.create_task(self._read(requests, state))
        try:
            while not reading.done():
                if self.faults.is_down or self._is_due_for_cut(started):
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected: stream cut")
                room = limit - len(state.out) if limit else STREAM_MESSAGES
                if state.waiting and room > 0:
                    yield state.take(min(room, STREAM_MESSAGES))
                else:
                    await asyncio.sleep(IDLE_S)
        finally:
            reading.cancel()

    def _is_due_for_cut(self, started: float) -> bool:
        age_s = self.faults.cut_streams_every_s
        return age_s is not None and time.monotonic() - started > age_s

    async def _read(self, requests: Any, state: SubscriptionState) -> None:
        async for request in requests:
            state.acknowledge(request.ack_ids)
            for ack_id, seconds in zip(
                request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True
            ):
                state.extend([ack_id], seconds)

    async def _admit(self, context: Any) -> None:
        if self.faults.is_down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "injected: down")
        if self.faults.refuses_credentials:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "injected: invalid credentials")

    async def _topic(self, name: str, context: Any) -> TopicState:
        await self._admit(context)
        if name not in self.topics:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Topic not found ({name})")
        return self.topics[name]

    async def _subscription(self, name: str, context: Any) -> SubscriptionState:
        await self._admit(context)
        if name not in self.subscriptions:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Subscription does not exist ({name})")
        return self.subscriptions[name]


async def serve_or_fail(rate: float, serve: Callable[[], Any], context: Any) -> Any:
    """Serve a request, or fail at this rate: before it is served, or by losing the answer."""
    is_lost = random.random() < rate
    if is_lost and random.random() < 0.5:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "injected")
    answer = serve()
    if is_lost:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "injected: answer lost")
    return answer


def unary(function: Any, request: Any, response: Any) -> Any:
    """Return the gRPC handler of one method; None as the response means the empty message."""
    answer = empty_pb2.Empty if response is None else response.pb()
    return grpc.unary_unary_rpc_method_handler(
        function,
        request_deserializer=request.pb().FromString,
        response_serializer=answer.SerializeToString,
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
def main(port: int) -> None:
    """Run the fake Pub/Sub until Ctrl-C; set PUBSUB_EMULATOR_HOST to the address it prints."""
    gc.set_threshold(GC_OBJECTS)  # it holds many messages, and no reference cycles
    with FakePubSub(port) as server:
        click.echo(f"Pub/Sub is ready at {server.host}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("stopped")


if __name__ == "__main__":
    main()
