"""Every acknowledgement is sent until Pub/Sub has answered it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from worker.backoff import Backoff
from worker.bridge.flow.stats import Stats
from worker.bridge.pubsub.acks import Acks
from worker.bridge.pubsub.client import PubSub

OK, AWAY = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


class Subscription:
    """A subscription that answers at once: with the given codes, then with OK."""

    def __init__(self, *codes: grpc.StatusCode) -> None:
        self.codes = list(codes)
        self.requests: list[list[str]] = []
        self.stats = Stats(3.0)
        self.backoff = Backoff(0.02, 0.04, jitter=lambda _low, high: high)
        self.acks = Acks(
            cast("PubSub", self), "projects/p/subscriptions/s", self.stats, self.backoff
        )

    def acknowledge(
        self, _subscription: str, ack_ids: Sequence[str], on_answer: Callable[[Any], None]
    ) -> None:
        self.requests.append(list(ack_ids))
        code = self.codes.pop(0) if self.codes else OK
        on_answer(SimpleNamespace(code=lambda: code))

    def pump_until_done(self) -> None:
        deadline = time.monotonic() + 10.0
        while not self.acks.is_done:
            assert time.monotonic() < deadline, self.requests
            self.acks.pump()
            time.sleep(0.001)


def test_acknowledgements_gather() -> None:
    """Many ids travel in one request, at most 1,000."""
    subscription = Subscription()
    ids = [str(number) for number in range(2500)]
    subscription.acks.add(ids)
    subscription.pump_until_done()

    assert [len(request) for request in subscription.requests] == [1000, 1000, 500]
    assert [name for request in subscription.requests for name in request] == ids


def test_a_failed_request_is_sent_again_after_a_delay() -> None:
    """During an outage the delays grow, and no acknowledgement is lost."""
    subscription = Subscription(AWAY, AWAY, AWAY)
    began = time.monotonic()
    subscription.acks.add(["a", "b"])
    subscription.pump_until_done()

    assert subscription.requests == [["a", "b"]] * 4
    assert subscription.stats.failures == 3
    assert time.monotonic() - began >= 0.02 + 0.04 + 0.04


def test_the_second_outage_begins_with_the_first_delay() -> None:
    """Once a request has succeeded, the next outage is met with the short delay."""
    subscription = Subscription(AWAY, AWAY)
    subscription.acks.add(["a"])
    subscription.pump_until_done()
    subscription.acks.add(["b"])
    subscription.pump_until_done()

    assert subscription.backoff.next_delay_s() == 0.02


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT],
    ids=lambda code: code.name,
)
def test_a_request_that_can_never_succeed_is_not_repeated(code: grpc.StatusCode) -> None:
    """The messages of such a request are delivered again when their leases are over."""
    subscription = Subscription(code)
    subscription.acks.add(["a"])
    subscription.pump_until_done()

    assert subscription.requests == [["a"]]
