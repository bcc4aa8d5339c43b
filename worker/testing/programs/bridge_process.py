"""A bridge without a worker, in a process of its own, to be measured or killed.

`python -m worker.testing.programs.bridge_process BOOTSTRAP ROUTE...` (JSON) prints "ready" when it
has started and "mirrors" when each route to Pub/Sub has mirrored a message.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from worker.bridge.messages.routes import Route
from worker.bridge.service import Bridge
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection

__all__ = ["run"]

SETTINGS = {
    "session.timeout.ms": 6000,
    "group.instance.id": "bridge",  # else the next one waits until a killed one's session is over
}


async def run(bootstrap: str, routes: list[Route]) -> None:
    """Mirror until SIGTERM comes."""
    bridge = Bridge(
        routes,
        broker=Broker(Connection(bootstrap)),
        dead_letters_topic="dead-letters",
        project="my-project",
        kafka_config=SETTINGS,
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await bridge.start()
    say("ready")
    outward = [bridge.stats[route.name] for route in routes if not route.is_inward]
    while not all(stats.mirrored for stats in outward) and not ended.is_set():  # noqa: ASYNC110 - counters call nobody
        await asyncio.sleep(0.01)
    say("mirrors")
    await ended.wait()
    await bridge.stop()


def say(line: str) -> None:
    """Print a line at once, for a program that reads it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run(sys.argv[1], [Route.model_validate_json(text) for text in sys.argv[2:]]))
