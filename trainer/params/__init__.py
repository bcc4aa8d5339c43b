"""What can be set, and whether it is right."""

from trainer.params.params import Params

__all__ = ["Params"]
