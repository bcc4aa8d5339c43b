"""What can be set, and whether it is right."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.params.params import Params

__all__ = ["Params"]


def __getattr__(name: str) -> Any:
    # Imported at first use: the command line reads `trainer.params.files` without pydantic.
    if name == "Params":
        from trainer.params.params import Params  # noqa: PLC0415

        return Params
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
