"""Requests built and read as bytes are those that protobuf builds and reads."""

from __future__ import annotations

from google.pubsub_v1 import types
from hypothesis import given
from hypothesis import strategies as st

from worker.bridge.messages.protobuf import field, list_of_bytes, varint

PubsubMessage = types.PubsubMessage.pb()
PublishRequest = types.PublishRequest.pb()


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_a_list_of_messages_is_read_as_their_bytes(datas: list[bytes]) -> None:
    """The messages of a request are found in their order, each as it was serialised."""
    messages = [PubsubMessage(data=data, attributes={"a": "b"}) for data in datas]
    request = PublishRequest(topic="projects/p/topics/t", messages=messages).SerializeToString()
    found = list_of_bytes(2).FromString(request).items
    assert list(found) == [message.SerializeToString() for message in messages]


@given(st.binary(max_size=20_000))
def test_a_field_reads_as_what_it_holds(content: bytes) -> None:
    """Tag, length and bytes are those of protobuf; here of a message's data, field 1."""
    assert field(1, content) == b"\x0a" + varint(len(content)) + content
    assert PubsubMessage.FromString(field(1, content)).data == content
