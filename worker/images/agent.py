"""The images agent; each event carries a bundle of records (`worker.kafka.transport`)."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from faust.streams import Stream
from faust.types import StreamT

from worker.images.pipeline import Pipeline

__all__ = ["images_agent"]


def images_agent(pipeline: Pipeline) -> Callable[[StreamT[Any]], Awaitable[None]]:
    """Return the agent's body; the pipeline acknowledges what it takes."""

    async def classify(stream: StreamT[Any]) -> None:
        """Classify images and publish a prediction or a dead letter for each."""
        async for event in cast("Stream[Any]", stream).noack().events():
            await pipeline.put(event)

    return classify
