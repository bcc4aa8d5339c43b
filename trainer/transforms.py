"""From stored bytes to what the net takes: one pass over a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trainer.components import Component, first_line

if TYPE_CHECKING:
    from trainer.params import Params

Shape = tuple[int, ...]
Named = tuple[str, Callable[..., Any]]


class Transforms:
    """The transforms of a run, applied to whole batches.

    The order: flips, scaling to 0..1, augmentations (flips and these in training only),
    normalisation, the additional transforms.
    """

    def __init__(self, params: Params, *, training: bool = False) -> None:
        """Make the transforms.

        Args:
            params: What to apply.
            training: Whether flips and augmentations happen.

        Raises:
            ValueError: An additional transform cannot be made; the text names it.
        """
        self._params = params
        self._flips = training and params.flip_images and params.flip_probability > 0
        self._augmenting = _all("augmentations", params.augmentations) if training else []
        self._additional = _all("additional_transforms", params.additional_transforms)
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

    def shape_after(self) -> Shape:
        """Return one image's shape behind the transforms, found by trying two black images.

        Raises:
            ValueError: A transform refuses a batch or gives no batch; names it.
        """
        height, width = self._params.image_height, self._params.image_width
        listed = [*self._augmenting, *self._additional]
        if not listed:
            return self._params.image_shape
        x = torch.zeros((2, self._params.channels, height, width))
        with torch.random.fork_rng(devices=()):
            return self._tried(listed, x)

    @staticmethod
    def _tried(listed: Iterable[Named], x: Tensor) -> Shape:
        for where, transform in listed:
            try:
                x = transform(x)
            except Exception as error:
                raise ValueError(
                    f"{where}: {first_line(error)}; it must take a float batch (n, c, h, w)"
                ) from error
            if not isinstance(x, Tensor) or x.ndim != 4 or len(x) != 2:
                raise ValueError(f"{where}: it must give a batch (n, c, h, w) of as many images")
        return tuple(x.shape[1:])

    @staticmethod
    def _flipped(x: Tensor, draws: Tensor | None) -> Tensor:
        if draws is None:
            return x
        horizontal, vertical = draws.to(x.device)
        x = torch.where(horizontal, x.flip(3), x)
        return torch.where(vertical, x.flip(2), x)


def _all(key: str, listed: Iterable[Any] | None) -> list[Named]:
    return [_made(f"{key}[{index}]", one) for index, one in enumerate(listed or ())]


def _through(transforms: Iterable[Named], x: Tensor) -> Tensor:
    for _, transform in transforms:
        x = transform(x)
    return x


def _made(where: str, one: Component | Callable[..., Any]) -> Named:
    if not isinstance(one, Component):
        return where, one
    try:
        made = one.build()
    except Exception as error:
        raise ValueError(f"{where}: {one.title}: {first_line(error)}") from error
    if not callable(made):
        raise ValueError(  # noqa: TRY004 - a finding like the others
            f"{where}: {one.title} is no transform: it cannot be called"
        )
    return where, made
