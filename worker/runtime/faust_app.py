"""Faust's app with what a worker needs beside it: a broker, services, a watchdog."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import faust
import mode
from faust.exceptions import ConsumerNotStarted
from faust.types import TP, TopicT
from faust.utils.terminal import SpinnerHandler
from yarl import URL

from worker.errors import WorkerError
from worker.kafka.broker import Broker
from worker.kafka.transport import Consumer, Transport
from worker.runtime.preflight import check_logdir, check_port
from worker.runtime.watchdog import Watchdog, loop_problem

__all__ = ["WorkerApp"]

BLOCKED_S = 50.0
"""How long the event loop may not answer."""


class WorkerApp(faust.App):
    """Faust's app with a broker that is found at the start, services of ours, and a watchdog."""

    def __init__(
        self,
        *args: Any,
        kafka: Broker,
        logdir: Path,
        watchdog: Watchdog,
        bulk_topics: set[str],
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._kafka = kafka
        self._logdir = logdir
        self._watchdog = watchdog
        self.images_transport = Transport(self.conf.broker_consumer, self, bulk_topics=bulk_topics)
        self.transport = self.images_transport
        self.services: Sequence[mode.Service] = ()
        """Started, in this order, when the worker has its partitions."""
        self.checks: Sequence[Callable[[], object]] = ()
        """Called in a thread before anything starts; a WorkerError ends the worker with it."""
        self.begin_stop: Callable[[], None] = lambda: None
        """Called first of all when the worker stops."""

    async def on_first_start(self) -> None:
        """Have a broker with topics; Faust's own first start makes folders that nothing uses."""
        self._watchdog.add(loop_problem(self.loop), BLOCKED_S)
        self._watchdog.start()
        try:
            await asyncio.to_thread(self._prepare)
        except WorkerError as error:
            await asyncio.to_thread(self._kafka.stop)  # its threads would keep the process
            raise SystemExit(f"Error: {error}") from error  # one message, no traceback
        brokers = self._kafka.bootstrap.split(",")
        self.images_transport.url = [URL(f"kafka://{broker}") for broker in brokers]

    def _prepare(self) -> None:
        check_logdir(self._logdir)
        if self.conf.web_enabled:
            check_port(str(self.conf.web_bind), self.conf.web_port)
        self._kafka.start()
        for check in self.checks:
            check()

    async def on_started_init_extra_services(self) -> None:
        """Start our services."""
        await super().on_started_init_extra_services()
        without_spinner(logging.getLogger())
        for service in self.services:
            await self.add_runtime_dependency(service)

    async def on_stop(self) -> None:
        """Finish and commit what is in hand."""
        self.begin_stop()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Stop the embedded broker when everything that talks to it has stopped."""
        await super().on_shutdown()
        await asyncio.to_thread(self._kafka.stop)  # the watchdog goes on: a thread may still hang

    def partitions_of(self, topic: str) -> list[int]:
        """Return which partitions of a topic are this worker's now."""
        return sorted(tp.partition for tp in self._assigned(topic))

    def lag_of(self, topic: str) -> dict[str, float]:
        """Return for each of this worker's partitions how many messages are not done yet."""
        consumer = cast("Consumer", self.consumer)
        return {str(tp.partition): consumer.lag(tp) for tp in self._assigned(topic)}

    def _assigned(self, topic: str) -> list[TP]:
        try:
            return [tp for tp in self.consumer.assignment() if tp.topic == topic]
        except ConsumerNotStarted:
            return []

    def is_in_group(self) -> bool:
        """Whether the worker has its share of the partitions, be it none."""
        return self.consumer_generation_id > 0 and not self.rebalancing

    def raw_topic(self, name: str) -> TopicT:
        """Return a topic of bytes; Faust would drop what it cannot decode itself."""
        return self.topic(
            name,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
        )


def without_spinner(root: logging.Logger) -> None:
    """Take back what Faust's spinner does to the root logger.

    It turns at every record, so every logger makes its debug records: a tenth of the time of the
    thread that fetches images.
    """
    spinners = [handler for handler in root.handlers if isinstance(handler, SpinnerHandler)]
    for handler in spinners:
        root.removeHandler(handler)
    if spinners:
        root.setLevel(min(handler.level for handler in root.handlers))
