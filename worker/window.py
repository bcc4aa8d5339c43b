"""The offsets of one partition between delivery and commit.

Promise: `position` never passes an offset that was opened and not closed, in whatever
order they are closed. It is what may be committed: the offset to read next.
"""

__all__ = ["Window"]


class Window:
    """Spans of offsets in the order of their delivery, each open until its work is done."""

    def __init__(self) -> None:
        self._is_closed: dict[int, bool] = {}
        self.position: int | None = None

    def __len__(self) -> int:
        return len(self._is_closed)

    def open(self, last_offset: int) -> None:
        """Note that everything up to `last_offset` has been delivered."""
        self._is_closed[last_offset] = False

    def close(self, last_offset: int) -> None:
        """Note that the span ending at `last_offset` is done; one that is not open is ignored."""
        if last_offset not in self._is_closed:
            return
        self._is_closed[last_offset] = True
        while self._is_closed:
            first = next(iter(self._is_closed))
            if not self._is_closed[first]:
                return
            del self._is_closed[first]
            self.position = first + 1
