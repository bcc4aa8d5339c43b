"""Receives every command in every worker, by a consumer without a group.

A consumer group gives each message to one worker only. This consumer begins at the end of the
topic, and after an outage where it was, so that a worker receives each command that was sent while
it ran.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import mode
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from worker.backoff import Backoff
from worker.errors import BadCommand
from worker.images.deployment_record import Order
from worker.kafka.broker import Broker
from worker.messages.commands import Command, message_id, parse_command

__all__ = ["CommandListener"]

logger = logging.getLogger(__name__)

POLL_MS = 200
POSITION_S = 10.0
FETCH_WAIT_MS = 100  # the embedded broker answers a fetch only after this wait, whatever arrives
FIRST_BACK_OFF_S = 0.25
MAX_BACK_OFF_S = 5.0


class CommandListener(mode.Service):
    """Gives each command to a handler, in order, with its place among all commands.

    Messages that are not commands are ignored; the worker that gets them in the group rejects them.

    Args:
        topic: The control topic.
        handle: Does a command.
        broker: The broker, which has an address when this service starts.
        client_id: Name of this consumer in the broker's logs.
        backoff: Delays between attempts to listen during an outage.
    """

    def __init__(
        self,
        topic: str,
        handle: Callable[[Command, Order], Awaitable[None]],
        *,
        broker: Broker,
        client_id: str = "darkroom",
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__()
        self._topic = topic
        self._handle = handle
        self._broker = broker
        self._client_id = client_id
        self._backoff = backoff or Backoff(FIRST_BACK_OFF_S, MAX_BACK_OFF_S)
        self._next: dict[TopicPartition, int] = {}
        self.has_position = asyncio.Event()
        """Set when no command that is sent from now on can be missed.

        Read what is deployed after this, not before: what is deployed later comes as a command.
        """

    async def on_started(self) -> None:
        """Let the worker say that it is ready when no command can be missed any more.

        A broker that does not answer holds the start up for ten seconds only.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POSITION_S):
                await self.has_position.wait()

    @mode.Service.task
    async def _keep_listening(self) -> None:
        while not self.should_stop:
            try:
                await self._listen()
            except (KafkaError, OSError) as error:
                delay_s = self._backoff.next_delay_s()
                logger.warning(
                    "topic=%s cannot be read, next attempt in delay_s=%.2f: %r",
                    *(self._topic, delay_s, error),
                )
                await self.sleep(delay_s)

    async def _listen(self) -> None:
        consumer = AIOKafkaConsumer(
            self._topic,
            group_id=None,
            enable_auto_commit=False,
            # for a partition that is new, or that the broker has lost: all that it holds was sent
            # while this worker ran
            auto_offset_reset="earliest",
            fetch_max_wait_ms=FETCH_WAIT_MS,
            client_id=self._client_id,
            **self._broker.connection.for_aiokafka(),
        )
        try:
            await consumer.start()
            await self._take_position(consumer)
            while not self.should_stop:
                batches = await consumer.getmany(timeout_ms=POLL_MS)
                self._backoff.reset()
                for partition, records in batches.items():
                    for record in records:
                        await self._receive(record)
                        self._next[partition] = record.offset + 1
        finally:
            await consumer.stop()

    async def _take_position(self, consumer: AIOKafkaConsumer) -> None:
        """Go to the end the first time, and afterwards to the next command."""
        if not self.has_position.is_set():
            self._next |= await consumer.end_offsets(consumer.assignment())
        for partition in consumer.assignment():
            if partition in self._next:
                consumer.seek(partition, self._next[partition])
        self.has_position.set()

    async def _receive(self, record: ConsumerRecord) -> None:
        place = message_id(record.topic, record.partition, record.offset)
        try:
            command = parse_command(record.value, default_id=place)
        except BadCommand:
            return
        try:
            await self._handle(command, (record.timestamp, record.offset))
        except Exception:
            # one command that fails must not keep the worker from receiving the next
            logger.exception("command=%s id=%s: failed", command.command, command.id)
