"""A broker that the processes of a test run share: who comes first starts it, and stops it last."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from worker.testing.programs.brokers import BrokerProcess

__all__ = ["shared"]


@contextmanager
def shared(
    broker: BrokerProcess, folder: Path, prepare: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Start a broker, or take the address of the one that another process has started.

    The end waits for the other processes. It must not come inside a test, be it the last one: a
    test that is to be alone waits for that.

    Args:
        broker: Not started yet.
        folder: The same one in all processes.
        prepare: Called when the broker was started here, before any other process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address, lock = folder / "address", FileLock(folder / "lock")
    with (folder / "users").open("w") as users:
        with lock:
            is_first = not address.exists()
            if is_first:
                broker.start()
                prepare()
                address.write_text(broker.address)
            broker.address = address.read_text()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if is_first:
                fcntl.flock(users, fcntl.LOCK_EX)  # waits for the others
                address.unlink()
                broker.kill()
