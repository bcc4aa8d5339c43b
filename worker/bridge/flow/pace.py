"""How fast a route works and how much it holds: what tests and benchmarks give it otherwise."""

from dataclasses import dataclass

from worker.backoff import Backoff

__all__ = ["Bounds", "Pace"]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """The times of a route, in seconds."""

    idle_poll_s: float = 0.05
    """Wait for the next message while no message is under way."""
    busy_poll_s: float = 0.002
    """Wait for the next message or answer while messages are under way."""
    lease_s: int = 30
    """Lease of a Pub/Sub message; after a kill, messages under way come again when it is over."""
    first_backoff_s: float = 0.1
    longest_backoff_s: float = 5.0
    quiet_s: float = 3.0
    """A route whose messages nobody confirms for this time counts as waiting. librdkafka tries
    again by itself when a broker refuses messages for the moment, and does not report that."""
    stalled_s: float = 300.0
    """A route that has work and finishes none of it for this time ends the worker."""
    drain_s: float = 8.0
    """Time to finish the messages under way when the route stops."""

    def backoff(self) -> Backoff:
        """Return a back-off for one thing that is tried again."""
        return Backoff(self.first_backoff_s, self.longest_backoff_s)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The most that a route holds, and the most that one of its requests carries."""

    messages: int = 20_000
    n_bytes: int = 64 * 1024 * 1024
    request_messages: int = 1_000
    """Pub/Sub's own limit."""
    request_bytes: int = 8_000_000
    """A request with one larger message is larger; Pub/Sub's own limit is 10 MB."""
