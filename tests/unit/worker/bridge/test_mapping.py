"""A message that goes from Kafka to Pub/Sub and back, or the other way, comes back unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from google.pubsub_v1 import types
from hypothesis import example, given
from hypothesis import strategies as st

from worker.bridge.messages import mapping
from worker.bridge.messages.hops import hops_of
from worker.bridge.messages.mapping import MARKS, KafkaMessage, Origin, from_pub_sub, origin_of
from worker.testing.pubsub.state import refusal

ORIGIN = Origin("kafka/c1/images", 3, "kafka/c1/images/3/17")
PubsubMessage = types.PubsubMessage.pb()

words = st.sampled_from(["topic", "data", "ordering_key", "timeout", "retry", "googclient_x", "a"])
names = st.one_of(words, st.text(max_size=300).filter(lambda name: name not in MARKS))
values = st.one_of(st.none(), st.binary(max_size=1100), st.text(max_size=40).map(str.encode))
messages = st.builds(
    KafkaMessage,
    key=st.one_of(st.none(), st.binary(max_size=1200), st.text(max_size=20).map(str.encode)),
    value=st.one_of(st.none(), st.binary(max_size=200)),
    headers=st.lists(st.tuples(names, values), max_size=110),
    timestamp=st.integers(0, 2**45),
)


def to_pub_sub(message: KafkaMessage, origin: Origin, ordering: Any = "none") -> Any:
    """Return the Pub/Sub message as a subscriber sees it."""
    wire, ordering_key = mapping.to_pub_sub(message, origin, ordering)
    read = PubsubMessage.FromString(wire)
    assert read.ordering_key == ordering_key
    return read


def own(headers: Any) -> list[tuple[str, bytes | None]]:
    return [(name, value) for name, value in headers if name not in MARKS]


@given(message=messages, ordering=st.sampled_from(["none", "key", "partition"]))
@example(KafkaMessage(b"k" * 2000, None, [], 0), "key")
@example(KafkaMessage(b"\xff" * 900, b"", [("h", b"1"), ("h", None), ("", b"")], 1), "key")
@example(KafkaMessage(None, b"v", [("x" * 257, b"1"), ("y", b"z" * 1025)], 1), "none")
@example(KafkaMessage(None, b"v", [(f"h{i}", b"1") for i in range(101)], 1), "none")
@example(KafkaMessage(None, b"v", [("darkroom.key", b"1"), ("darkroom.frame", b"1")], 1), "none")
def test_kafka_to_pub_sub_to_kafka(message: KafkaMessage, ordering: Any) -> None:
    """Value, key, headers in order and timestamp are the same, and Pub/Sub accepts the message."""
    there = to_pub_sub(message, ORIGIN, ordering)
    assert refusal([there], [there.SerializeToString()]) is None
    back = from_pub_sub(there, "pubsub/t")
    assert (back.key, back.value, back.timestamp) == (message.key, message.value, message.timestamp)
    assert own(back.headers) == list(message.headers)


@example(b"", {"topic": "t", "data": "d", "retry": ""}, "")
@given(
    data=st.binary(max_size=100),
    attributes=st.dictionaries(
        st.text(min_size=1, max_size=60).filter(
            lambda name: not name.startswith(("goog", "darkroom."))
        ),
        st.text(max_size=200),
        max_size=80,
    ),
    key=st.text(max_size=50),
)
def test_pub_sub_to_kafka_to_pub_sub(data: bytes, attributes: dict[str, str], key: str) -> None:
    """Data, attributes and ordering key are the same, and id and publish time can be read."""
    message = PubsubMessage(data=data, attributes=attributes, ordering_key=key, message_id="77")
    message.publish_time.FromMilliseconds(1_700_000_000_123)
    there = from_pub_sub(message, "pubsub/t")
    back = to_pub_sub(there, ORIGIN)
    assert (back.data, back.ordering_key) == (data, key)
    assert {name: back.attributes[name] for name in attributes} == attributes
    own_names = {name for name in back.attributes if not name.startswith("darkroom.")}
    assert own_names == set(attributes)
    assert back.attributes["darkroom.message_id"] == "77"
    assert back.attributes["darkroom.publish_time"] == "1700000000.123000000"


def test_a_mirrored_message_says_where_it_was_and_what_it_was_first() -> None:
    """The id of the first place stays through every hop; the list of hops grows."""
    first = to_pub_sub(KafkaMessage(None, b"v", [], 1), ORIGIN)
    second = from_pub_sub(first, "pubsub/projects/p/topics/t")
    headers = dict(second.headers)
    assert headers["darkroom.origin"] == ORIGIN.id.encode()
    assert hops_of(headers["darkroom.hops"]) == ["kafka/c1/images", "pubsub/projects/p/topics/t"]
    assert origin_of(second) == ORIGIN.id
    third = to_pub_sub(second, Origin("kafka/c2/copy", 0, "kafka/c2/copy/0/0"))
    assert third.attributes["darkroom.origin"] == ORIGIN.id
    assert hops_of(third.attributes["darkroom.hops"])[-1] == "kafka/c2/copy"


@pytest.mark.parametrize(
    ("ordering", "key", "expected"),
    [
        ("none", b"k", ""),
        ("key", b"k", "k"),
        ("key", None, ""),
        ("partition", b"k", "kafka/c1/images/3"),
        ("key", b"\xff", "a8100ae6aa1940d0b663bb31cd466142ebbdbd5187131b92d93818987832eb89"),
    ],
)
def test_a_route_picks_the_ordering_key(ordering: Any, key: bytes | None, expected: str) -> None:
    """The ordering key is none, the key (a hash if the key is not text), or the partition."""
    message = to_pub_sub(KafkaMessage(key, b"v", [], 1), ORIGIN, ordering)
    assert message.ordering_key == expected


def test_plain_headers_are_plain_attributes() -> None:
    """A header that Pub/Sub can hold is an attribute of the same name."""
    headers = [("content-type", b"image/png"), ("id", b"7")]
    message = to_pub_sub(KafkaMessage(None, b"v", headers, 1), ORIGIN)
    assert message.attributes["content-type"] == "image/png"
    assert not any(name.startswith("darkroom.headers") for name in message.attributes)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"darkroom.timestamp": "soon"},
        {"darkroom.frame": "1"},
        {"darkroom.headers.0": "nonsense"},
        {"darkroom.headers.1": "[]"},
        {"darkroom.key.base64": "="},
        {"darkroom.timestamp": "-1"},
        {"darkroom.timestamp": "9" * 30},
        {"darkroom.headers.0": '[[null,"YQ=="]]'},
        {"darkroom.headers.0": '[[7,"YQ=="]]'},
        {f"darkroom.headers.{number}": "[" * 1024 for number in range(10)},
    ],
)
def test_reserved_attributes_of_someone_else_do_no_harm(spoilt: dict[str, str]) -> None:
    """Unreadable reserved attributes become headers like any other attribute."""
    message = PubsubMessage(data=b"x", attributes={"darkroom.origin": "me", **spoilt})
    mirrored = from_pub_sub(message, "pubsub/t")
    assert mirrored.value == b"x"
    assert mirrored.timestamp in (None, 0)
    assert all(isinstance(name, str) for name, _ in mirrored.headers)
