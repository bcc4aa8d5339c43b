"""Connects the ranks of a training with their worker, which knows of one process only."""

import contextlib
import socket
import threading
from collections.abc import Mapping

from worker.training.process.channel import Channel
from worker.training.process.exits import how_it_ended
from worker.training.process.messages import Outcome, Stop, from_line, to_line

__all__ = ["RankRelay"]

JOIN_S = 5.0


class RankRelay:
    """The launcher's ends of the connections to its ranks.

    Args:
        channel: The connection to the worker.
        lock: The descriptor of the job's lock, of which every rank gets a copy.
        size: Number of ranks.

    Attributes:
        rank_ends: Each rank's end of its connection, by rank.
    """

    def __init__(self, channel: Channel, lock: int, size: int) -> None:
        pairs = [socket.socketpair() for _ in range(size)]
        self._channel = channel
        self._ends = [here for here, _ in pairs]
        self.rank_ends = tuple(there for _, there in pairs)
        for end in self._ends:
            socket.send_fds(end, [b"l"], [lock])
        self._outcomes: dict[int, Outcome] = {}  # in the order in which they came
        self._readers = [
            threading.Thread(target=self._read, args=(rank,), name=f"rank {rank}", daemon=True)
            for rank in range(size)
        ]

    def start(self) -> None:
        """Begin to read, once all ranks have their ends."""
        for end in self.rank_ends:
            end.close()  # else the stream of a dead rank would not end
        for reader in self._readers:
            reader.start()

    def stop(self) -> None:
        """Pass the worker's request to stop on to every rank."""
        for end in self._ends:
            with contextlib.suppress(OSError):  # the rank is dead
                end.sendall(to_line(Stop()))

    def _read(self, rank: int) -> None:
        with contextlib.suppress(OSError):
            for line in self._ends[rank].makefile("rb"):
                if not line.endswith(b"\n"):
                    break  # the rank died while it wrote
                message = from_line(line)
                if isinstance(message, Outcome):
                    self._outcomes[rank] = message
                elif (
                    rank == 0
                ):  # the pulses of the others say no more: they all wait for each other
                    self._channel.send(message)
        outcome = self._outcomes.get(rank)
        if outcome is None or outcome.status == "failed":
            self._end_all()

    def _end_all(self) -> None:
        """End the streams to the ranks, upon which they end, even in the middle of a collective."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connections when all ranks have ended."""
        self._end_all()
        for reader in self._readers:
            if reader.ident is not None:
                reader.join(JOIN_S)
        for end in [*self._ends, *self.rank_ends]:
            end.close()

    def outcome(self, exitcodes: Mapping[int, int | None]) -> Outcome:
        """Return the outcome of the training, from what the ranks have said and how they ended.

        A signal comes first: what the other ranks say after it is that they have lost one.
        """
        for rank, code in sorted(exitcodes.items()):
            if code is not None and code < 0:
                return self._death(rank, code)
        for outcome in self._outcomes.values():
            if outcome.status == "failed":
                return outcome
        for rank in range(len(self._ends)):
            if rank not in self._outcomes:
                return self._death(rank, exitcodes.get(rank))
        lost = [outcome for outcome in self._outcomes.values() if outcome.status == "died"]
        return lost[0] if lost else self._outcomes[0]

    def _death(self, rank: int, exitcode: int | None) -> Outcome:
        which = f"process {rank + 1} of {len(self._ends)}"
        return Outcome(status="died", reason=f"{which} {how_it_ended(exitcode)}")
