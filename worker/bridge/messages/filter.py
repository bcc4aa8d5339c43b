"""Which messages a route leaves where they are."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

from worker.bridge.messages.hops import HOPS, hops_of

__all__ = ["Filter", "RecentIds"]

Value = TypeVar("Value", str, bytes)


class Filter(Generic[Value]):
    """Excludes messages without the route's headers, and those that have been at its far end."""

    def __init__(self, where: Mapping[str, Value], target_place: str) -> None:
        """Begin to filter.

        Args:
            where: Headers (attributes) that a message must have.
            target_place: The place where the route's messages go.
        """
        self._where: Mapping[str, Value] = where
        self._target_place = target_place

    def excludes(self, headers: Mapping[str, Value | None]) -> bool:
        """Return whether a message with these headers (attributes) stays where it is."""
        hops = headers.get(HOPS) if headers else None
        if hops and self._target_place in hops_of(hops):
            return True
        return bool(self._where) and any(
            headers.get(name) != value for name, value in self._where.items()
        )


class RecentIds:
    """The ids of the last messages, to recognise a second copy."""

    def __init__(self, limit: int) -> None:
        """Begin without ids; a limit of 0 keeps none."""
        self._limit = limit
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._ids

    def add(self, name: str) -> None:
        """Remember an id, and forget the oldest one when there are too many."""
        if not self._limit:
            return
        self._ids[name] = None
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)
