"""Routes: each mirrors one topic to another, one way; routes that make a loop are refused."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, model_validator

from worker.bridge.flow.errors import BridgeError

__all__ = ["Ordering", "Route", "Step", "default_routes", "refuse_loops"]

Ordering = Literal["none", "key", "partition"]

KafkaName = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
PubSubName = Annotated[
    str,
    Field(pattern=r"^(projects/[^/]+/(topics|subscriptions)/)?[A-Za-z][A-Za-z0-9._~+%-]{2,254}$"),
]


class Route(BaseModel):
    """One way: a Kafka topic to a Pub/Sub topic, or a subscription to a Kafka topic.

    With `pub_sub_subscription` messages come from Pub/Sub. `pub_sub_topic` beside it is the topic
    on which a missing subscription is created, when `create` allows that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kafka_topic: KafkaName
    pub_sub_topic: PubSubName | None = None
    pub_sub_subscription: PubSubName | None = None
    project: str | None = None
    """The project of short names; `PUB_SUB_PROJECT` by default."""
    create: bool = False
    """Whether a missing topic or subscription is created."""
    ordering: Ordering = "none"
    """The ordering key of messages to Pub/Sub: none, the message's key, or its partition."""
    where: Mapping[str, str] = Field(default_factory=dict)
    """Headers (attributes) that a message must have to be mirrored."""
    deduplicate: NonNegativeInt = 0
    """Number of the last messages among which a second copy is recognised and dropped."""

    @model_validator(mode="after")
    def _has_an_end_in_pub_sub(self) -> Self:
        if not self.pub_sub_topic and not self.pub_sub_subscription:
            raise ValueError(
                "a route needs pub_sub_topic (from Kafka) or pub_sub_subscription (to Kafka)"
            )
        if self.is_inward and self.ordering != "none":
            raise ValueError(
                f"ordering={self.ordering!r} is for routes to Pub/Sub; in Kafka the message's "
                "ordering key becomes its key; remove `ordering` from the route"
            )
        return self

    @property
    def is_inward(self) -> bool:
        """Whether messages go from Pub/Sub to Kafka."""
        return self.pub_sub_subscription is not None

    @property
    def name(self) -> str:
        """The route's name in logs, metrics and errors."""
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


class Step(NamedTuple):
    """The way of a message by one route."""

    route: str
    """The route's name."""
    source: str
    """The place that the message leaves: a topic, with its cluster or project."""
    target: str


def refuse_loops(steps: Sequence[Step]) -> None:
    """Check that no message can come back to a place where it has been.

    Raises:
        BridgeError: names the routes that make a circle.
    """
    for step in steps:
        if circle := path_back([step], steps):
            names = ", ".join(step.route for step in circle)
            raise BridgeError(
                f"these routes would mirror each message in a circle for ever: {names}; remove one "
                "of them, or send its messages to another topic"
            )


def path_back(path: list[Step], steps: Sequence[Step]) -> list[Step] | None:
    """Return the path, continued to the place where it began; None when no step leads there."""
    if path[-1].target == path[0].source:
        return path
    for step in steps:
        if step.source == path[-1].target and step not in path:
            found = path_back([*path, step], steps)
            if found:
                return found
    return None
