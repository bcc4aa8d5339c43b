"""Which messages of a subscription are under way, and whose leases are due to be extended."""

import time

__all__ = ["LEASE_S", "Leases"]

LEASE_S = 30
"""After a kill, the messages that were under way come again when it is over."""
EXTEND_AFTER_S = 10.0
LOOK_EVERY_S = 1.0


class Leases:
    """Messages that Kafka has not confirmed; one thread begins them, another ends them."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._look_at = 0.0
        # one counter a thread: two threads cannot safely change the same one
        self._bytes_begun = 0
        self._bytes_ended = 0

    def __len__(self) -> int:
        return len(self._since)

    @property
    def size(self) -> int:
        """Bytes of the messages under way."""
        return self._bytes_begun - self._bytes_ended

    def begin(self, ack_id: str, size: int, now: float) -> None:
        """Note a message that was received, with a lease from `now` on (`time.monotonic`)."""
        self._since[ack_id] = now
        self._bytes_begun += size

    def end(self, ack_id: str, size: int) -> None:
        """Note that a message is no longer under way."""
        self._since.pop(ack_id, None)
        self._bytes_ended += size

    def all(self) -> list[str]:
        """Return what is under way, the oldest first."""
        return list(self._since)

    def due(self) -> list[str]:
        """Return, once a second, what is under way for 10 s; its leases begin anew."""
        now = time.monotonic()
        if now < self._look_at:
            return []
        self._look_at = now + LOOK_EVERY_S
        found: list[str] = []
        for ack_id, since in list(self._since.items()):  # in one go; the other thread adds
            if now - since < EXTEND_AFTER_S:
                break
            found.append(ack_id)
        for ack_id in found:
            if self._since.pop(ack_id, None) is not None:
                self._since[ack_id] = now  # last in the order again
        return found
