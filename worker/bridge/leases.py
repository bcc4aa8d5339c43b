"""Which messages of a subscription are under way, and whose leases are due to be extended."""

import time

__all__ = ["Leases"]

EXTEND_AFTER_S = 20.0
LOOK_EVERY_S = 1.0


class Leases:
    """Ids of messages that Kafka has not confirmed; one thread begins them, another ends them."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._look_at = 0.0

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, ack_id: str, now: float) -> None:
        """Note a message that was received, with a lease from `now` on (`time.monotonic`)."""
        self._since[ack_id] = now

    def end(self, ack_id: str) -> None:
        """Note that a message is no longer under way."""
        self._since.pop(ack_id, None)

    def all(self) -> list[str]:
        """Return what is under way, the oldest first."""
        return list(self._since)

    def due(self) -> list[str]:
        """Return, once a second, what is under way for 20 s; its leases begin anew."""
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
