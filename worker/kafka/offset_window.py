"""The offsets of one partition between delivery and commit.

Promise: `position` never passes an offset that was opened and not closed, in whatever
order they are closed. It is what may be committed: the offset to read next.
"""

__all__ = ["OffsetWindow"]


class OffsetWindow:
    """Spans of offsets in the order of their delivery, each open until its work is done."""

    def __init__(self) -> None:
        self._loads: dict[int, int] = {}
        """The load of each span by its last offset; a closed span has none."""
        self.position: int | None = None
        self.pending = 0
        """The load of all open spans together."""

    def open(self, last_offset: int, load: int = 1) -> None:
        """Note that everything up to `last_offset` was delivered; it counts as `load` (above 0)."""
        self.pending += load - self._loads.get(last_offset, 0)
        self._loads[last_offset] = load

    def close(self, last_offset: int) -> None:
        """Note that the span ending at `last_offset` is done; one that is not open is ignored."""
        if last_offset not in self._loads:
            return
        self.pending -= self._loads[last_offset]
        self._loads[last_offset] = 0
        while self._loads:
            first = next(iter(self._loads))
            if self._loads[first]:
                return
            del self._loads[first]
            self.position = first + 1
