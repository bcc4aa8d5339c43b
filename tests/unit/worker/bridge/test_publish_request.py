"""A publish request built by hand is the one that protobuf would build."""

from __future__ import annotations

from google.pubsub_v1 import types
from hypothesis import example, given
from hypothesis import strategies as st

from worker.bridge.pubsub.client import publish_request

PubsubMessage = types.PubsubMessage.pb()
PublishRequest = types.PublishRequest.pb()


@given(st.lists(st.binary(max_size=300), max_size=20))
@example([b"x" * 127, b"x" * 128, b"x" * 16_384, b"x" * 3_000_000])
def test_it_reads_as_the_same_request(datas: list[bytes]) -> None:
    """Topic and messages, of any length, are read back in their order."""
    messages = [PubsubMessage(data=data, attributes={"a": "b"}) for data in datas]
    encoded = [message.SerializeToString() for message in messages]
    read = PublishRequest.FromString(publish_request("projects/p/topics/t", encoded))
    assert read == PublishRequest(topic="projects/p/topics/t", messages=messages)
