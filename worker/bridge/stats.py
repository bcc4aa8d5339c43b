"""What a route has done and has before it, for logs, metrics and the watchdog."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, TopicPartition

__all__ = ["QUIET_S", "Recent", "Stats", "lag_of"]

TROUBLE_S = 90.0
"""What was not met again for so long has passed; requests time out after 60 s."""
QUIET_S = 3.0
"""Where work is under way for so long and none is confirmed, the other side takes none. librdkafka
tries again by itself what a broker refuses for the moment, and says nothing of it."""


def lag_of(consumer: Consumer, topic: str, positions: Mapping[int, int]) -> int:
    """Return how many messages lie behind these positions, as far as the consumer knows."""
    lag = 0
    for partition, position in positions.items():
        one = TopicPartition(topic, partition)
        _, high = consumer.get_watermark_offsets(one, cached=True) or (0, 0)
        lag += max(0, high - position) if high > 0 else 0
    return lag


@dataclass
class Stats:
    """Counted by the route's threads, read by anyone."""

    mirrored: int = 0
    dead_letters: int = 0
    held_back: int = 0
    """Too large for Kafka and its dead letters; they stay in the subscription."""
    skipped: int = 0
    """Filtered out, come from where the route goes to, or a second copy."""
    failures: int = 0
    """Requests that failed and were tried again."""
    outstanding: int = 0
    """Taken and not confirmed yet."""
    lag: int = 0
    """Messages in Kafka that are still to come; towards Kafka it is not known."""
    stuck: str = ""
    """Dead letters that are not kept, so that what stands behind them is not finished either."""
    progressed_at: float = field(default_factory=time.monotonic)
    _problem: str = ""
    _problem_at: float = 0.0

    @property
    def problem(self) -> str:
        """What a request failed with lately; empty when none did."""
        return self._problem if time.monotonic() - self._problem_at < TROUBLE_S else ""

    @property
    def cause(self) -> tuple[str, str]:
        """Why the route waits at the moment: the kind, and the words; empty when it does not."""
        if problem := self.problem:
            return "failure", problem
        if self.stuck:
            return "dead letters", self.stuck
        quiet_s = time.monotonic() - self.progressed_at
        if self.outstanding and quiet_s > QUIET_S:
            return "silence", f"the other side confirmed nothing for {quiet_s:.0f} s"
        return "", ""

    @property
    def waiting_for(self) -> str:
        """What the route waits for at the moment; empty when nothing is wrong."""
        return self.cause[1]

    def trouble(self, problem: str) -> None:
        """Note that a request has failed, and is to be tried again."""
        self.failures += 1
        self._problem, self._problem_at = problem, time.monotonic()

    def is_well(self) -> None:
        """Note that the other side answers."""
        self._problem = ""

    def progress(self, mirrored: int = 0) -> None:
        """Note that something was confirmed."""
        self.mirrored += mirrored
        self.progressed_at = time.monotonic()
        self.is_well()

    def stalled_s(self) -> float:
        """Return for how many seconds there was work, and none of it got done."""
        if not self.outstanding and not self.waiting_for:
            self.progressed_at = time.monotonic()
        return time.monotonic() - self.progressed_at


class Recent:
    """The last ids that were mirrored, so many of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def add(self, name: str) -> None:
        """Remember an id, and forget the oldest where there are too many."""
        if not self._limit:
            return
        self._ids[name] = None
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)
