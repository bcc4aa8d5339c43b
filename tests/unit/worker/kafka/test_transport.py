"""The consumer's work with records, and the parts of Faust and aiokafka that it relies on."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.errors import IllegalStateError
from aiokafka.structs import ConsumerRecord
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer as FaustConsumer
from faust.transport.consumer import ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from worker.kafka.bundles import BUNDLE_BYTES, BUNDLE_RECORDS, Bundle, chunks, load_of
from worker.kafka.transport import MAX_PENDING, Consumer, Flow, Transport

IMAGES = TP("images", 0)


def records(*sizes: int, start: int = 0) -> list[ConsumerRecord[bytes, bytes]]:
    return [
        ConsumerRecord("images", 0, offset, 0, 0, None, bytes(size), None, 0, size, ())
        for offset, size in enumerate(sizes, start)
    ]


@pytest.fixture
def made() -> Iterator[Consumer]:
    app = faust.App("test", broker="kafka://127.0.0.1:1", store="memory://")
    flow = Flow(bulk_topics={"images"}, held_topics={"images"})
    app.transport = Transport(app.conf.broker_consumer, app, flow=flow)
    made = app.consumer
    assert isinstance(made, Consumer)
    yield made
    made._thread.thread_loop.close()


async def messages(made: Consumer, fetched: list[Any]) -> list[Bundle]:
    """Return what the consumer yields when a fetch brings these records."""

    async def fetch(timeout: float) -> Any:
        return {IMAGES: fetched}, {IMAGES}

    made._wait_next_records = fetch  # type: ignore[method-assign]
    made.highwater = lambda tp: 0  # type: ignore[method-assign]
    return [message async for _, message in made.getmany(1.0)]  # type: ignore[misc]


def test_records_travel_in_bundles_of_bounded_size() -> None:
    """A bundle has at most 256 records and, but for a single larger one, 4 MiB."""
    few_large = [len(chunk) for chunk in chunks(records(*[BUNDLE_BYTES // 2] * 5))]
    many_small = [len(chunk) for chunk in chunks(records(*[1] * (2 * BUNDLE_RECORDS + 1)))]
    too_large = [len(chunk) for chunk in chunks(records(1, 2 * BUNDLE_BYTES, 1))]
    assert few_large == [2, 2, 1]
    assert many_small == [BUNDLE_RECORDS, BUNDLE_RECORDS, 1]
    assert too_large == [1, 1, 1]


async def test_a_bundle_is_committed_when_it_is_acknowledged(made: Consumer) -> None:
    """A bundle has the offset of its last record; later bundles do not hold it back."""
    first, second = await messages(made, records(*[1] * (BUNDLE_RECORDS + 10), start=100))
    for message in (first, second):
        message.tracked = True
    assert made._new_offset(IMAGES) is None
    made.ack(first)
    assert made._new_offset(IMAGES) == 100 + BUNDLE_RECORDS
    made.ack(second)
    assert made._new_offset(IMAGES) == 100 + BUNDLE_RECORDS + 10


async def test_what_faust_skips_is_not_committed(made: Consumer) -> None:
    """Faust acknowledges, untracked, messages that it skips in a rebalance; these are not done."""
    (bundle,) = await messages(made, records(1, 1))
    made.ack(bundle)
    assert made._new_offset(IMAGES) is None


async def test_what_was_delivered_before_a_rebalance_is_not_committed_after_it(
    made: Consumer,
) -> None:
    """Another worker may have the partition by then, and its window begins anew."""
    (bundle,) = await messages(made, records(1, 1))
    bundle.tracked = True
    made.app.consumer_generation_id = 7
    made.ack(bundle)
    assert made._new_offset(IMAGES) is None


@pytest.mark.parametrize("error", [IllegalStateError("images-0"), AssertionError("no partition")])
async def test_a_rebalance_during_a_seek_does_not_end_the_worker(
    made: Consumer, error: Exception
) -> None:
    """A second rebalance may take partitions while the fetch goes back to what is committed."""

    async def seek() -> Any:
        raise error

    made._thread.seek_to_committed = seek  # type: ignore[method-assign]
    made.stop_flow()
    assert await messages(made, records(1, 1)) == []
    await made.perform_seek()


async def test_only_bulk_topics_are_bundled(made: Consumer) -> None:
    """Commands come one by one."""
    made.transport.flow = Flow()
    assert [message.offset for message in await messages(made, records(1, 1))] == [0, 1]


async def test_a_held_topic_is_not_fetched(made: Consumer) -> None:
    """Without a model images stay in Kafka, and the other topics go on."""
    asked: list[set[TP]] = []

    async def getmany(active: set[TP], timeout: float) -> dict[TP, Any]:
        asked.append(active)
        return {}

    made._thread.getmany = getmany  # type: ignore[method-assign,assignment]
    control = TP("control", 0)
    await made._getmany({IMAGES}, 0.0)
    await made._getmany({IMAGES, control}, 0.0)
    made.transport.flow.release("images")
    await made._getmany({IMAGES, control}, 0.0)
    assert asked == [{control}, {IMAGES, control}]


async def test_no_more_images_are_fetched_while_enough_are_pending(made: Consumer) -> None:
    """Images stay in Kafka until others are done; commands are fetched all the same."""
    asked: list[set[TP]] = []

    async def getmany(active: set[TP], timeout: float) -> dict[TP, Any]:
        asked.append(active)
        return {}

    made._thread.getmany = getmany  # type: ignore[method-assign,assignment]
    control = TP("control", 0)
    made.transport.flow.release("images")
    first, *_ = await messages(made, records(*[1] * MAX_PENDING))
    await made._getmany({IMAGES, control}, 0.0)
    first.tracked = True
    made.ack(first)
    await made._getmany({IMAGES, control}, 0.0)
    assert asked == [{control}, {IMAGES, control}]


async def test_a_full_buffer_takes_no_partition_out(made: Consumer) -> None:
    """Faust would fetch only the others, and wait a second for partitions at their end."""
    made._set_active_tps({IMAGES})
    made.on_buffer_full(IMAGES)
    assert made._get_active_partitions() == {IMAGES}


async def test_large_images_count_by_their_size(made: Consumer) -> None:
    """At most ten bundles are pending, whether they are full of records or of bytes."""
    small = await messages(made, records(*[1] * BUNDLE_RECORDS))
    large = await messages(made, records(BUNDLE_BYTES, 2 * BUNDLE_BYTES))
    assert [load_of(message) for message in [*small, *large]] == [256, 256, 512]


async def test_a_commit_that_is_under_way_does_not_replace_the_next(made: Consumer) -> None:
    """Work done since the other commit began is committed before a partition is given up."""
    committed: list[str] = []

    async def force_commit(*_: Any, **__: Any) -> bool:
        committed.append("next")
        return True

    made.force_commit = force_commit  # type: ignore[method-assign]
    under_way = made._commit_fut = asyncio.get_running_loop().create_future()
    next_one = asyncio.create_task(made.commit())
    await asyncio.sleep(0)
    made._commit_fut = None
    under_way.set_result(None)
    await next_one
    assert committed == ["next"]


async def test_pending_work_is_committed_after_the_flow_stops(made: Consumer) -> None:
    """A rebalance or SIGTERM between two bundles of one fetch must not forget the first."""

    async def fetch(timeout: float) -> Any:
        return {IMAGES: records(*[1] * (BUNDLE_RECORDS + 10))}, {IMAGES}

    made._wait_next_records = fetch  # type: ignore[method-assign]
    made.highwater = lambda tp: 0  # type: ignore[method-assign]
    sought: list[str] = []

    async def seek_to_committed() -> dict[TP, int]:
        sought.append("committed")
        return {}

    made.seek_to_committed = seek_to_committed  # type: ignore[method-assign]
    delivered = made.getmany(1.0)
    made.resume_flow()
    _, first = await anext(delivered)
    first.tracked = True
    made.stop_flow()
    assert [message async for message in delivered] == []
    assert sought == ["committed"]
    made.ack(first)
    assert made._new_offset(IMAGES) == BUNDLE_RECORDS


async def test_a_rebalance_while_the_worker_stops_forgets_nothing(made: Consumer) -> None:
    """Pending messages are finished and committed before the partitions are given up."""
    windows_at_commit: list[int] = []

    async def wait_empty() -> None:
        windows_at_commit.append(len(made._windows))

    made.wait_empty = wait_empty  # type: ignore[method-assign]
    await messages(made, records(1, 1))
    made.app._stopped.set()
    made.close = lambda: None  # type: ignore[method-assign]
    await made.on_partitions_revoked({IMAGES})
    assert windows_at_commit == [1]


def test_faust_still_calls_what_is_overridden() -> None:
    """An upgrade that renames one of these would silently bring the losses back."""
    drain = inspect.getsource(FaustConsumer._drain_messages)
    assert "getmany(timeout=1.0)" in drain
    assert "self._add_gap(" in drain
    commit = inspect.getsource(FaustConsumer.force_commit)
    assert "self._filter_tps_with_pending_acks(" in commit
    assert "self._new_offset(" in inspect.getsource(FaustConsumer._filter_committable_offsets)
    assert "_getmany(" in inspect.getsource(FaustConsumer._wait_next_records)
    assert "self._thread.getmany(" in inspect.getsource(ThreadDelegateConsumer._getmany)
    assert "on_buffer_full" in vars(FaustConsumer)
    assert "_new_consumer_thread" in vars(driver.Consumer)
    assert "_create_worker_consumer" in vars(driver.AIOKafkaConsumerThread)


def test_faust_still_forgets_before_it_commits() -> None:
    """Once Faust does so no longer, `Consumer.on_partitions_revoked` here can go."""
    source = inspect.getsource(FaustConsumer.on_partitions_revoked)
    assert source.index("self._acked.pop") < source.index("self._on_partitions_revoked")


def test_faust_still_seeks_after_a_rebalance() -> None:
    """Records fetched and not delivered before it are read again from the committed offset."""
    assert "consumer.perform_seek()" in inspect.getsource(Recovery._resume_streams)
    assert "consumer.perform_seek()" in inspect.getsource(Recovery.on_recovery_completed)


def test_aiokafka_still_takes_the_fetch_wait_at_the_start() -> None:
    """The wait is set between the making of the consumer and its start."""
    assert "_fetch_max_wait_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)
