"""The fake Pub/Sub delivers a message again when its deadline is over, and not before."""

from __future__ import annotations

import itertools
import time

import pytest
from google.pubsub_v1 import types

from worker.testing.pubsub.state import SubscriptionState, TopicState

Message = types.PubsubMessage.pb()
StreamingPullResponse = types.StreamingPullResponse.pb()


def test_what_is_not_acknowledged_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extended lease lasts longer, an acknowledged message never comes again."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    topic = TopicState("projects/p/topics/t")
    subscription = SubscriptionState("projects/p/subscriptions/s", topic.name, 10.0, False)
    topic.subscriptions.append(subscription)
    wires = [Message(data=b"%d" % number).SerializeToString() for number in range(3)]
    topic.take(wires, "", itertools.count(1))

    def taken() -> dict[bytes, str]:
        """Pull, and return the ack id of each message."""
        read = StreamingPullResponse.FromString(subscription.take(10)).received_messages
        return {one.message.data: one.ack_id for one in read}

    ids = taken()
    assert sorted(ids) == [b"0", b"1", b"2"]
    subscription.acknowledge([ids[b"0"]])
    subscription.extend([ids[b"1"]], 30)
    for clock[0], expected in ((105.0, []), (111.0, [b"2"]), (125.0, [b"2"]), (131.0, [b"1"])):
        subscription.expire()
        assert sorted(taken()) == expected
