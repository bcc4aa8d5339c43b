"""The training part of a worker as a program of its own, to be killed by tests.

Its events are lines on its standard output: `python lone_worker.py LOGDIR DATADIR`.
"""

import asyncio
import signal
import sys
from pathlib import Path

from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner


async def send(_key: bytes, value: bytes) -> None:
    sys.stdout.buffer.write(value + b"\n")
    sys.stdout.flush()


async def send_command(command: Command) -> None:
    await send(b"", command.to_json())


async def main(logdir: Path, datadir: Path) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    events = EventPublisher(send, "lone-worker")
    async with Runner(Ledger(logdir), events, send_command=send_command, datadir=datadir):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
