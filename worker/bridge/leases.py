"""Which messages of a subscription are under way, and whose leases are due to be extended."""

import time
from collections.abc import Iterable

__all__ = ["LEASE_S", "Leases"]

LEASE_S = 30
"""After a kill, the messages that were under way come again when it is over."""
EXTEND_AFTER_S = 10.0
LOOK_EVERY_S = 1.0


class Leases:
    """The ack ids of messages that Kafka has not confirmed; used by one thread."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, ack_ids: Iterable[str]) -> None:
        """Note messages that were received just now."""
        self._since.update(dict.fromkeys(ack_ids, time.monotonic()))

    def end(self, ack_ids: Iterable[str]) -> None:
        """Note that messages are no longer under way."""
        for ack_id in ack_ids:
            self._since.pop(ack_id, None)

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
        for ack_id, since in self._since.items():
            if now - since < EXTEND_AFTER_S:
                break
            found.append(ack_id)
        self.end(found)
        self.begin(found)  # last in the order again
        return found
