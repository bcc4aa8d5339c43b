"""The base of a room's settings: fields that are named after the variables they are read from."""

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Section", "variable"]


class Section(BaseModel):
    """Some settings of a worker, each read from a variable (`variable(NAME, default)`)."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    @classmethod
    def variables(cls) -> Iterator[str]:
        """Yield the names of the variables."""
        for field in cls.model_fields.values():
            if field.alias is not None:
                yield field.alias


def variable(
    name: str, default: Any = None, *, factory: Callable[[], Any] | None = None, **limits: Any
) -> Any:
    """Return a field that is read from an environment variable.

    Args:
        name: the variable's name; without `DARKROOM_` and in lower case it is also the name in the
            `[worker]` table of a params file.
        default: the value where the variable is not set.
        factory: makes the default, where it is not a constant.
        limits: pydantic's, such as `gt=0`.
    """
    if factory is not None:
        return Field(default_factory=factory, alias=name, **limits)
    return Field(default, alias=name, **limits)
