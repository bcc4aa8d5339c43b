"""What is mirrored where: routes, each one way, and the refusal of those that make a loop."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from worker.bridge.errors import BridgeError

__all__ = ["Ordering", "Route", "default_routes", "refuse_loops"]

Ordering = Literal["none", "key", "partition"]

KafkaName = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
PubSubName = Annotated[
    str,
    Field(pattern=r"^(projects/[^/]+/(topics|subscriptions)/)?[A-Za-z][A-Za-z0-9._~+%-]{2,254}$"),
]


class Route(BaseModel):
    """One way: a Kafka topic to a Pub/Sub topic, or a subscription to a Kafka topic.

    With `pub_sub_subscription` messages come from Pub/Sub; `pub_sub_topic` beside it is the topic
    that the subscription is made on where `create` says that it may be made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_topic: KafkaName
    pub_sub_topic: PubSubName | None = None
    pub_sub_subscription: PubSubName | None = None
    project: str | None = None
    """`PUB_SUB_PROJECT` where it is not given."""
    create: bool = False
    """Whether a topic or subscription that is missing is created."""
    ordering: Ordering = "none"
    """What becomes the ordering key towards Pub/Sub: nothing, the key, or the partition."""
    where: Mapping[str, str] = Field(default_factory=dict)
    """Only messages with all of these headers (attributes) are mirrored."""
    deduplicate: NonNegativeInt = 0
    """So many of the last messages' ids are remembered, and a second copy among them dropped."""

    @model_validator(mode="after")
    def _has_an_end_in_pub_sub(self) -> Self:
        if not self.pub_sub_topic and not self.pub_sub_subscription:
            raise ValueError(
                "a route needs pub_sub_topic (from Kafka) or pub_sub_subscription (to Kafka)"
            )
        if self.is_inward and self.ordering != "none":
            raise ValueError(
                f"ordering={self.ordering!r} is for routes to Pub/Sub; in Kafka the key is the "
                "message's own ordering key"
            )
        return self

    @property
    def is_inward(self) -> bool:
        """Whether messages go from Pub/Sub to Kafka."""
        return self.pub_sub_subscription is not None

    @property
    def name(self) -> str:
        """What the route is called in logs and errors."""
        if self.is_inward:
            return f"{self.pub_sub_subscription} -> {self.kafka_topic}"
        return f"{self.kafka_topic} -> {self.pub_sub_topic}"

    def topic_path(self, project: str | None) -> str | None:
        """Return `projects/P/topics/T`, None where the route names no topic.

        Raises:
            BridgeError: the name is short and there is no project.
        """
        return self._path("topics", self.pub_sub_topic, project)

    def subscription_path(self, project: str | None) -> str | None:
        """Return `projects/P/subscriptions/S`, None where the route names no subscription.

        Raises:
            BridgeError: the name is short and there is no project.
        """
        return self._path("subscriptions", self.pub_sub_subscription, project)

    def _path(self, collection: str, name: str | None, project: str | None) -> str | None:
        if name is None or name.startswith("projects/"):
            return name
        if not (self.project or project):
            raise BridgeError(
                f"route {self.name}: {name!r} needs a project; set PUB_SUB_PROJECT, or write "
                f"projects/PROJECT/{collection}/{name}"
            )
        return f"projects/{self.project or project}/{collection}/{name}"


def default_routes(
    *,
    images_topic: str,
    predictions_topic: str,
    pub_sub_topic: str | None,
    pub_sub_subscription: str | None,
) -> list[Route]:
    """Return the routes of the published keys: subscription to images, predictions to topic."""
    routes = []
    if pub_sub_subscription:
        routes.append(Route(kafka_topic=images_topic, pub_sub_subscription=pub_sub_subscription))
    if pub_sub_topic:
        routes.append(Route(kafka_topic=predictions_topic, pub_sub_topic=pub_sub_topic))
    return routes


def refuse_loops(steps: Sequence[tuple[str, str, str]]) -> None:
    """Check that no message can come back to where it was.

    Args:
        steps: (route's name, where from, where to), with a subscription's topic for where from.

    Raises:
        BridgeError: names the routes that make a circle.
    """
    for start in range(len(steps)):
        path = [steps[start]]
        if circle := follow(steps, path, steps[start][1]):
            names = ", ".join(name for name, _, _ in circle)
            raise BridgeError(
                f"routes would mirror in a circle, each message for ever: {names}; take one out, "
                "or let it go to another topic"
            )


def follow(
    steps: Sequence[tuple[str, str, str]], path: list[tuple[str, str, str]], start: str
) -> list[tuple[str, str, str]] | None:
    """Return the path's continuation back to the start, None when there is none."""
    if path[-1][2] == start:
        return path
    for step in steps:
        if step[1] == path[-1][2] and step not in path:
            found = follow(steps, [*path, step], start)
            if found:
                return found
    return None
