"""From stored bytes to what the net takes: one pass over a whole batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from trainer.params.components import NamedTransform, build_transforms
from trainer.params.fields import Fields


class Transforms:
    """The transforms of a run, applied to whole batches.

    The order: flips, scaling to 0..1, augmentations (flips and these in training only),
    normalisation, the additional transforms.
    """

    def __init__(self, params: Fields, *, training: bool = False) -> None:
        """Make the transforms.

        Args:
            params: What to apply.
            training: Whether flips and augmentations happen.

        Raises:
            ValueError: An additional transform cannot be made; the text names it.
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

    def draws(self, images: int, generator: torch.Generator | None = None) -> Tensor | None:
        """Return which of so many images are flipped, bool `(2, n, 1, 1, 1)`: across and down."""
        if not self._flips:
            return None
        draws = torch.rand((2, images, 1, 1, 1), generator=generator)
        return draws < self._params.flip_probability

    def __call__(self, images: Tensor, draws: Tensor | None = None) -> Tensor:
        """Return a batch for the net.

        Args:
            images: uint8, shape `(n, height, width, channels)`.
            draws: What `draws` returned for these images; drawn anew when not given.

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
