"""The published params as a plain dict, to copy and change; classes are dotted names."""

from typing import Any

from trainer.params.params import Params

__all__ = ["DEFAULT_PARAMS"]

DEFAULT_PARAMS: dict[str, Any] = Params().as_json()
