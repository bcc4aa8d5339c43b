"""What can be set on the bridge."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PositiveFloat

from worker.bridge.messages.routes import Route, default_routes
from worker.kafka.topics import Topics
from worker.section import Section, variable

__all__ = ["BridgeSettings"]


def _from_json(value: Any) -> Any:
    """Read what an environment variable can only give as text."""
    return json.loads(value) if isinstance(value, str) else value


class BridgeSettings(Section):
    """What is mirrored to and from Google Pub/Sub."""

    project: str | None = variable("PUB_SUB_PROJECT")
    topic: str | None = variable("PUB_SUB_TOPIC")
    subscription: str | None = variable("PUB_SUB_SUBSCRIPTION")
    credentials_file: Path | None = variable("GOOGLE_APPLICATION_CREDENTIALS")
    timeout_s: PositiveFloat = variable("TIMEOUT", 3.0)
    """Seconds for requests to Pub/Sub."""
    routes: Annotated[tuple[Route, ...], BeforeValidator(_from_json)] = variable(
        "DARKROOM_ROUTES", ()
    )
    """What the bridge mirrors; by default what the published keys above ask for."""

    def routes_of(self, topics: Topics) -> Sequence[Route]:
        """Return the routes that are set, else those of the published keys, else none."""
        return self.routes or default_routes(
            images_topic=topics.images,
            predictions_topic=topics.predictions,
            pub_sub_topic=self.topic,
            pub_sub_subscription=self.subscription,
        )
