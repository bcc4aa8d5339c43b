"""A bridge in a process of its own, to be killed: `python -m ... BOOTSTRAP ROUTE...` (JSON)."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from worker.bridge.routes import Route
from worker.bridge.service import bridge_services


async def run(bootstrap: str, routes: list[Route]) -> None:
    (bridge,) = bridge_services(
        routes,
        bootstrap=lambda: bootstrap,
        dead_letters_topic="dead-letters",
        project="my-project",
        kafka_config={"session.timeout.ms": 6000},
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await bridge.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await ended.wait()
    await bridge.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(run(sys.argv[1], [Route.model_validate_json(text) for text in sys.argv[2:]]))
