"""The messages of a subscription that are under way, and the leases that are to be extended."""

import time
from collections.abc import Iterable

__all__ = ["Leases"]


class Leases:
    """The ack ids of messages that Kafka has not confirmed; used by one thread."""

    def __init__(self, lease_s: float) -> None:
        """Begin without messages.

        Args:
            lease_s: Seconds that a lease lasts. It is extended when a fifth of it has passed: then
                several extensions in a row may fail.
        """
        self._extend_after_s = lease_s / 5
        self._check_every_s = lease_s / 20
        self._since: dict[str, float] = {}
        self._check_at = 0.0

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
        """Return the ack ids of all messages under way, the oldest first."""
        return list(self._since)

    def renew(self) -> list[str]:
        """Return the ack ids whose leases are to be extended now, and begin their time anew.

        To look at the leases costs time, so that most calls return nothing.
        """
        now = time.monotonic()
        if now < self._check_at:
            return []
        self._check_at = now + self._check_every_s
        found: list[str] = []
        for ack_id, since in self._since.items():
            if now - since < self._extend_after_s:
                break
            found.append(ack_id)
        self.end(found)
        self.begin(found)  # last in the order again
        return found
