"""What the ranks of a training say becomes what one process would say."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.unit.worker.training.scripted_process import epoch, started
from worker.training.process.channel import Channel
from worker.training.process.messages import (
    Outcome,
    ProcessMessage,
    Pulse,
    Stop,
    from_line,
    to_line,
)
from worker.training.process.rank_relay import RankRelay

FINISHED = Outcome(status="finished", epoch=3, num_epochs=3)
FAILED = Outcome(status="failed", reason="data/train is empty")
LOST = Outcome(status="died", reason="RuntimeError: connection closed by peer")
TIMEOUT_S = 10.0


class Ranks:
    """Two ranks in this process, and the worker at the other end."""

    def __init__(self) -> None:
        self.worker, there = socket.socketpair()
        self._lock = os.open(os.devnull, os.O_RDONLY)
        self._channel_end = there
        self.relay = RankRelay(Channel(there), self._lock, 2)
        self.ends = [end.dup() for end in self.relay.rank_ends]
        for end in [self.worker, *self.ends]:
            end.settimeout(TIMEOUT_S)
        self.locks = [socket.recv_fds(end, 1, 1)[1][0] for end in self.ends]
        self.relay.start()

    def say(self, rank: int, *messages: ProcessMessage) -> None:
        for message in messages:
            self.ends[rank].sendall(to_line(message))

    def end(self, rank: int) -> None:
        self.ends[rank].close()

    def has_to_end(self, rank: int) -> bool:
        """Wait until a rank's stream has ended, upon which a real one ends."""
        return self.ends[rank].recv(1) == b""

    def outcome(self, *exitcodes: int) -> Outcome:
        self.end(0)
        self.end(1)
        self.relay.close()
        return self.relay.outcome(dict(enumerate(exitcodes)))

    def heard_by_worker(self) -> list[ProcessMessage]:
        self._channel_end.close()
        return [from_line(line) for line in self.worker.makefile("rb")]

    def close(self) -> None:
        for end in [self.worker, self._channel_end, *self.ends]:
            end.close()
        self.relay.close()
        for descriptor in [self._lock, *self.locks]:
            os.close(descriptor)


@pytest.fixture
def ranks() -> Iterator[Ranks]:
    ranks = Ranks()
    yield ranks
    ranks.close()


def test_the_worker_hears_rank_0(ranks: Ranks) -> None:
    """Reports and pulses are those of rank 0, and there is one outcome."""
    ranks.say(0, started(), Pulse(), epoch(1), FINISHED)
    ranks.say(1, Pulse(), FINISHED)
    outcome = ranks.outcome(0, 0)

    assert outcome == FINISHED
    assert ranks.heard_by_worker() == [started(), Pulse(), epoch(1)]


def test_a_stop_reaches_every_rank(ranks: Ranks) -> None:
    """Each saves its part of the work when the worker asks for it."""
    ranks.relay.stop()

    lines = [end.makefile("rb").readline() for end in ranks.ends]
    assert [from_line(line) for line in lines] == [Stop(), Stop()]


@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_rank_ends_the_others(ranks: Ranks, victim: int) -> None:
    """The job can be tried again at once; the reason says which process died, and how."""
    ranks.say(1 - victim, LOST)
    ranks.end(victim)
    assert ranks.has_to_end(1 - victim)
    codes = (-9, 1) if victim == 0 else (1, -9)
    outcome = ranks.outcome(*codes)

    assert outcome.status == "died"
    assert str(outcome.reason).startswith(f"process {victim + 1} of 2 was ended by SIGKILL")


def test_a_failure_of_one_rank_is_the_failure_of_all(ranks: Ranks) -> None:
    """The others only know that they have lost one, and may say so first."""
    ranks.say(0, LOST)
    ranks.say(1, FAILED)
    ranks.end(1)
    assert ranks.has_to_end(0)

    assert ranks.outcome(1, 1) == FAILED


def test_an_exit_without_a_word_is_a_death(ranks: Ranks) -> None:
    """Half of a message counts as nothing."""
    ranks.say(0, FINISHED)
    ranks.ends[1].sendall(b'{"message": "outc')
    outcome = ranks.outcome(0, 3)

    assert outcome.status == "died"
    assert outcome.reason == "process 2 of 2 ended by itself with exit code 3"


def test_ranks_that_lost_each_other_are_tried_again(ranks: Ranks) -> None:
    """Without any other cause the loss itself is the reason."""
    ranks.say(0, LOST)
    ranks.say(1, LOST)

    assert ranks.outcome(1, 1) == LOST


def test_every_rank_holds_the_lock(ranks: Ranks) -> None:
    """Nobody else can take the job while a rank still lives."""
    inode = os.fstat(ranks.locks[0])

    assert [os.path.samestat(inode, os.fstat(lock)) for lock in ranks.locks] == [True, True]
