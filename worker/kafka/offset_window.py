"""The offsets of one partition between delivery and commit.

Promise: `position` never passes an offset that was opened and not closed, in whatever
order they are closed. It is what may be committed: the offset to read next.
"""

__all__ = ["Window"]


class Window:
    """Spans of offsets in the order of their delivery, each open until its work is done."""

    def __init__(self) -> None:
        self._weights: dict[int, int] = {}
        """By last offset; a span that is closed weighs nothing."""
        self.position: int | None = None
        self.in_hand = 0
        """What the open spans weigh together."""

    def __len__(self) -> int:
        return len(self._weights)

    def open(self, last_offset: int, weight: int = 1) -> None:
        """Note that everything up to `last_offset` has been delivered."""
        self.in_hand += weight - self._weights.get(last_offset, 0)
        self._weights[last_offset] = weight

    def close(self, last_offset: int) -> None:
        """Note that the span ending at `last_offset` is done; one that is not open is ignored."""
        if last_offset not in self._weights:
            return
        self.in_hand -= self._weights[last_offset]
        self._weights[last_offset] = 0
        while self._weights:
            first = next(iter(self._weights))
            if self._weights[first]:
                return
            del self._weights[first]
            self.position = first + 1
