"""What every contender of the training is told and does alike: its job, its turns, its images."""

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
    """What a contender trains, where from, and how.

    Attributes:
        datadir: Holds `train` and `test`, PNG files with their memory maps beside them.
        logdir: For those who log.
        params: The trainer's; the others follow what concerns them.
        own_step: Train with a user's own steps.
        workers: Processes that load, where there are such.
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
        """Return what `from_arguments` reads."""
        return json.dumps(asdict(self))

    def split(self, kind: str) -> Split:
        """Open the train or the test split."""
        return open_split(Params.validate_all(self.params), kind, Path(self.datadir))

    def tensors(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return a split as ready tensors: float32 `(n, c, h, w)` in 0..1, and labels."""
        split = self.split(kind)
        pixels = torch.from_numpy(split.images.array.copy())
        return pixels.permute(0, 3, 1, 2).float().div(255).contiguous(), split.labels


def your_turn() -> bool:
    """Say that the last turn is done, wait for the next; False when there is none."""
    print(DONE, end="", flush=True)
    return bool(sys.stdin.readline())


def take_turns(epoch: Callable[[], object]) -> None:
    """Train an epoch whenever it is one's turn."""
    while your_turn():
        epoch()


def a_sample(params: Params, *, training: bool) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Return what is usually done to a single image: to a tensor, flipped in training."""
    steps: list[Any] = [transforms.ToTensor()]
    if training and params.flip_images:
        p = params.flip_probability
        steps += [transforms.RandomHorizontalFlip(p), transforms.RandomVerticalFlip(p)]
    return transforms.Compose(steps)  # type: ignore[no-any-return]
