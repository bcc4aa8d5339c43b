"""Batches keep the order of their key, and a refused message is found without harm to others."""

from __future__ import annotations

import time
from types import SimpleNamespace

from worker.bridge.flow.lanes import Batch, Item, Lanes, Span
from worker.bridge.flow.pace import Bounds, Pace
from worker.bridge.flow.stats import Stats
from worker.bridge.messages.filter import RecentIds
from worker.kafka.offset_window import OffsetWindow


class Sent:
    """Lanes, and the batches that they sent."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.lanes = Lanes(self.batches.append, Bounds(), Pace())
        self.window = OffsetWindow()

    def add(self, key: str, *numbers: int, size: int = 10) -> None:
        for number in numbers:
            self.window.open(number)
            span = Span(self.window, number, 1)
            message = b"%*d" % (size, number)
            self.lanes.add(key, [Item(message, span, SimpleNamespace(), str(number))])

    def pump(self) -> list[list[int]]:
        """Send, and return the numbers of each batch."""
        self.batches.clear()
        self.lanes.pump()
        return [[int(item.message) for item in batch.items] for batch in self.batches]


def test_an_ordered_lane_has_one_batch_under_way() -> None:
    """Messages of a key wait while a batch of that key is under way."""
    sent = Sent()
    sent.add("k", 1, 2)
    assert sent.pump() == [[1, 2]]
    (first,) = sent.batches
    sent.add("k", 3)
    assert sent.pump() == []
    sent.lanes.finish(first)
    assert sent.pump() == [[3]]


def test_keys_do_not_wait_for_each_other() -> None:
    """Each key has a request of its own, as Pub/Sub demands."""
    sent = Sent()
    sent.add("a", 1)
    sent.add("b", 2)
    sent.add("a", 3)
    assert sorted(sent.pump()) == [[1, 3], [2]]


def test_nothing_overtakes_a_batch_that_is_tried_again() -> None:
    """In an ordered lane a failed batch is the next one, after its back-off."""
    sent = Sent()
    sent.add("k", 1, 2)
    sent.pump()
    (first,) = sent.batches
    sent.add("k", 3)
    sent.lanes.retry(first)
    assert sent.pump() == []
    first.not_before = time.monotonic()
    assert sent.pump() == [[1, 2]]


def test_a_refused_batch_is_halved_in_order() -> None:
    """The left half goes first, the right one after it, then the rest of the lane."""
    sent = Sent()
    sent.add("k", 1, 2, 3)
    sent.pump()
    (whole,) = sent.batches
    sent.add("k", 4)
    sent.lanes.bisect(whole)
    order = []
    while batches := sent.pump():
        order += batches
        sent.lanes.finish(sent.batches[0])
    assert order == [[1], [2, 3], [4]]


def test_a_request_has_at_most_1000_messages_and_8_mb() -> None:
    """Long lanes are cut by number and by size."""
    sent = Sent()
    sent.add("", *range(2500))
    assert [len(batch) for batch in sent.pump()] == [1000, 1000, 500]
    large = Sent()
    large.add("", 1, 2, 3, size=3_000_000)
    assert large.pump() == [[1, 2], [3]]


def test_what_is_under_way_is_counted_until_it_is_finished() -> None:
    """Messages and bytes go up when added and down when finished, through every retry."""
    sent = Sent()
    sent.add("", 1, 2, size=100)
    sent.pump()
    (batch,) = sent.batches
    assert (sent.lanes.outstanding, sent.lanes.outstanding_bytes) == (2, 200)
    sent.lanes.retry(batch)
    assert sent.lanes.outstanding == 2
    batch.not_before = 0.0
    sent.pump()
    sent.lanes.finish(batch)
    assert (sent.lanes.outstanding, sent.lanes.outstanding_bytes) == (0, 0)


def test_a_span_closes_its_window_with_its_last_message() -> None:
    """A position moves only when each message of a span is done."""
    window = OffsetWindow()
    window.open(9)
    span = Span(window, 9, 2)
    span.finish()
    assert window.position is None
    span.finish()
    assert window.position == 10


def test_the_last_ids_are_remembered() -> None:
    """The oldest id is forgotten when there are too many; with a limit of 0 none is kept."""
    recent = RecentIds(2)
    for name in ("a", "b", "c"):
        recent.add(name)
    assert ("a" in recent, "b" in recent, "c" in recent) == (False, True, True)
    none = RecentIds(0)
    none.add("a")
    assert "a" not in none


def test_a_route_without_work_is_not_stalled() -> None:
    """Only work that is not finished counts as a stall."""
    stats = Stats(quiet_s=3.0, progressed_at=time.monotonic() - 100)
    assert stats.stalled_s() < 1
    stats.progressed_at = time.monotonic() - 100
    stats.outstanding = 1
    assert stats.stalled_s() >= 100
    stats.record_progress()
    assert stats.stalled_s() < 1
