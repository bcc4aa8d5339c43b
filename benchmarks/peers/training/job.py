"""The common part of the training contenders: job, turns, images."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision import transforms

from trainer import Params
from trainer.data.splits import Split, open_split

DONE = "turn done\n"


@dataclass(frozen=True)
class Job:
    """The training of a contender.

    Attributes:
        datadir: Holds `train` and `test`, PNG files with their memory maps beside them.
        logdir: For contenders that log.
        params: Params of the trainer; other contenders use those that they know.
        own_step: Whether to train with a user's own steps.
        workers: Processes of the DataLoader.
    """

    datadir: str
    logdir: str
    params: dict[str, Any]
    own_step: bool = False
    workers: int = 0

    @classmethod
    def from_arguments(cls) -> Self:
        """Read the command line."""
        return cls(**json.loads(sys.argv[1]))

    def as_argument(self) -> str:
        """Return the job as the argument that `from_arguments` reads."""
        return json.dumps(asdict(self))

    def split(self, kind: str) -> Split:
        """Open the train or the test split."""
        return open_split(Params.validate_all(self.params), kind, Path(self.datadir))

    def tensors(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return a split as tensors: float32 `(n, c, h, w)` in 0..1, and labels."""
        split = self.split(kind)
        pixels = torch.from_numpy(split.images.array.copy())
        return pixels.permute(0, 3, 1, 2).float().div(255).contiguous(), split.labels


def your_turn() -> bool:
    """Report the end of the last turn and wait for the next one; False if there is none."""
    print(DONE, end="", flush=True)
    return bool(sys.stdin.readline())


def take_turns(epoch: Callable[[], object]) -> None:
    """Train an epoch per turn."""
    while your_turn():
        epoch()


def a_sample(params: Params, *, training: bool) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Return the usual transform of one image: to a tensor, with flips in training."""
    steps: list[Any] = [transforms.ToTensor()]
    if training and params.flip_images:
        p = params.flip_probability
        steps += [transforms.RandomHorizontalFlip(p), transforms.RandomVerticalFlip(p)]
    return transforms.Compose(steps)  # type: ignore[no-any-return]
