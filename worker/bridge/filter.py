"""Which messages have business on the other side of a route."""

from collections.abc import Mapping
from typing import Generic, TypeVar

from worker.bridge.hops import HOPS, hops_of

__all__ = ["Filter"]

Value = TypeVar("Value", str, bytes)


class Filter(Generic[Value]):
    """Passes what has the headers that a route asks for and was not yet where the route goes."""

    def __init__(self, where: Mapping[str, Value], target_place: str) -> None:
        """Take the headers (attributes) that a message must have, and the route's far end."""
        self._where: Mapping[str, Value] = where
        self._target_place = target_place

    def stops(self, marks: Mapping[str, Value | None]) -> bool:
        """Return whether a message with these headers (attributes) stays where it is."""
        hops = marks.get(HOPS) if marks else None
        if hops and self._target_place in hops_of(hops):
            return True
        return bool(self._where) and any(
            marks.get(name) != value for name, value in self._where.items()
        )
