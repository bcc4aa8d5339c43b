"""From stored pixels to the net's input: one pass over a whole batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainer.params.components import NamedTransform, build_transforms
from trainer.params.fields import Fields

__all__ = ["Transforms"]


class Transforms:
    """The transforms of a run, applied to whole batches.

    In this order: flips, scaling to 0..1, augmentations, normalisation, additional transforms.
    Flips and augmentations happen in training only.
    """

    def __init__(self, params: Fields, *, training: bool = False) -> None:
        """Make the transforms.

        Args:
            params: The params of the run.
            training: Whether flips and augmentations happen.

        Raises:
            ValueError: An augmentation or additional transform cannot be built; the text names it.
        """
        self._params = params
        self._flips = training and params.flip_images and params.flip_probability > 0
        self._augmenting = (
            build_transforms("augmentations", params.augmentations) if training else []
        )
        self._additional = build_transforms("additional_transforms", params.additional_transforms)
        self._mean, self._std = (
            torch.tensor(values).view(1, -1, 1, 1)
            for values in (params.normalise_mean, params.normalise_std)
        )

    def draws(self, n_images: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Draw which images to flip: bool `(2, n, 1, 1, 1)`, across and down, or None."""
        if not self._flips:
            return None
        draws = torch.rand((2, n_images, 1, 1, 1), generator=generator)
        return draws < self._params.flip_probability

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return the net's input for a batch.

        Args:
            images: uint8, shape `(n, height, width, channels)`.
            draws: The result of `draws` for these images; by default they are drawn here.

        Returns:
            float32, shape `(n, channels, height, width)` unless an additional transform changes it.
        """
        x = images.permute(0, 3, 1, 2)
        if self._flips:
            x = self._flipped(x, self.draws(len(x)) if draws is None else draws)
        x = x.to(torch.float32).div_(255)
        if self._augmenting:
            parts = x.tensor_split(min(self._params.augmentation_groups, len(x)))
            x = torch.cat([_through(self._augmenting, part) for part in parts])
        if self._params.normalise_images:
            x = x.sub_(self._mean.to(x.device)).div_(self._std.to(x.device))
        return _through(self._additional, x)

    @staticmethod
    def _flipped(x: Tensor, draws: Tensor | None) -> Tensor:
        if draws is None:
            return x
        horizontal, vertical = draws.to(x.device)
        x = torch.where(horizontal, x.flip(3), x)
        return torch.where(vertical, x.flip(2), x)


def _through(transforms: Iterable[NamedTransform], x: Tensor) -> Tensor:
    for _, transform in transforms:
        x = transform(x)
    return x
