"""Routes are one way, complete, and make no circle."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from worker.bridge.flow.errors import BridgeError
from worker.bridge.messages.routes import Route, Step, default_routes, refuse_loops


def test_a_route_needs_an_end_in_pub_sub() -> None:
    """A Kafka topic alone is not a route."""
    with pytest.raises(ValidationError, match="needs pub_sub_topic"):
        Route(kafka_topic="images")


def test_a_short_name_needs_a_project() -> None:
    """A short name is completed from the route's project or the deployment's, or refused."""
    route = Route(kafka_topic="images", pub_sub_topic="python-tester")
    assert route.topic_path("my-project") == "projects/my-project/topics/python-tester"
    with pytest.raises(BridgeError, match="set PUB_SUB_PROJECT"):
        route.topic_path(None)
    full = Route(kafka_topic="images", pub_sub_subscription="projects/p/subscriptions/sub")
    assert full.subscription_path(None) == "projects/p/subscriptions/sub"


def test_an_ordering_is_for_routes_to_pub_sub() -> None:
    """An ordering on a route to Kafka is refused, with the rule that applies there."""
    with pytest.raises(ValidationError, match="ordering key becomes its key"):
        Route(kafka_topic="images", pub_sub_subscription="sub", ordering="key")


def test_the_published_keys_make_the_default_routes() -> None:
    """The subscription feeds the images, predictions go to the topic; no keys make no route."""
    names = {"images_topic": "images", "predictions_topic": "images-predictions"}
    inward, outward = default_routes(
        **names, pub_sub_topic="python-tester", pub_sub_subscription="python-tester-sub"
    )
    assert (inward.name, inward.is_inward) == ("python-tester-sub -> images", True)
    assert (outward.name, outward.is_inward) == ("images-predictions -> python-tester", False)
    assert default_routes(**names, pub_sub_topic=None, pub_sub_subscription=None) == []


def test_routes_in_a_circle_are_refused() -> None:
    """Routes that would bring a message back to where it was are refused by their names."""
    there, back = Step("there", "kafka/a", "pubsub/t"), Step("back", "pubsub/t", "kafka/a")
    with pytest.raises(BridgeError, match=r"circle.*: there, back"):
        refuse_loops([there, back])
    with pytest.raises(BridgeError, match="one, two, three"):
        refuse_loops(
            [
                Step("one", "kafka/a", "pubsub/t"),
                Step("aside", "pubsub/t", "kafka/x"),
                Step("two", "pubsub/t", "kafka/b"),
                Step("three", "kafka/b", "kafka/a"),
            ]
        )


def test_routes_without_a_circle_are_accepted() -> None:
    """Two routes from one topic, or to one, are not a circle."""
    refuse_loops(
        [
            Step("a", "kafka/a", "pubsub/t"),
            Step("b", "pubsub/t", "kafka/b"),
            Step("c", "kafka/a", "pubsub/u"),
        ]
    )
