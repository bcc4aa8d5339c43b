"""The shapes between the layers of a net, and findings about layers that do not fit.

Layers are made and run on torch's meta device, without memory or arithmetic, whatever their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainer.params.components import (
    Component,
    NamedTransform,
    build_transforms,
    first_line,
    wrong_kwargs,
)
from trainer.params.fields import Fields

__all__ = ["Shape", "ShapeCheck", "output_shape", "shape_after_transforms"]

Shape = tuple[int, ...]

# Names that layers have for their numbers of input and output channels.
INPUTS = ("in_channels", "num_features", "in_features", "num_channels", "input_size")
OUTPUTS = ("out_channels", "out_features")


@dataclass(frozen=True)
class ShapeCheck:
    """The shape behind the last layer.

    Attributes:
        shape: Shape of one image, without the batch: `(256, 1, 1)`; `()` when there are findings.
        findings: One sentence for each thing that is wrong.
    """

    shape: Shape
    findings: tuple[str, ...] = ()


def output_shape(layers: Sequence[Component], image: Shape) -> ShapeCheck:
    """Return the shape of an image of shape `(channels, height, width)` behind the layers.

    The first layer that does not fit is a finding; so are the wrong keyword arguments of every
    layer.
    """
    wrong = [
        finding
        for index, layer in enumerate(layers)
        for finding in wrong_kwargs(f"net_arch[{index}]", layer.cls, layer.kwargs, ())
    ]
    if wrong:
        return ShapeCheck((), tuple(wrong))
    source, current = "the image", image
    for index, layer in enumerate(layers):
        try:
            after = _shape_behind_layer(layer, f"net_arch[{index}]", current, source)
        except ValueError as error:
            return ShapeCheck((), (str(error),))
        if after[:1] != current[:1] or any(name in layer.kwargs for name in OUTPUTS):
            source = f"net_arch[{index}]"
        current = after
    return ShapeCheck(current)


def shape_after_transforms(fields: Fields, *, training: bool = False) -> Shape:
    """Return the shape of one image behind the user's transforms, which are tried on two images.

    Args:
        fields: The params.
        training: Whether to apply `augmentations` before `additional_transforms`.

    Raises:
        ValueError: A transform cannot be built, refuses a batch, or does not return a batch; the
            text names it.
    """
    listed = build_transforms("augmentations", fields.augmentations) if training else []
    listed += build_transforms("additional_transforms", fields.additional_transforms)
    if not listed:
        return fields.image_shape
    x = torch.zeros((2, *fields.image_shape))
    with torch.random.fork_rng(devices=()):
        return _shape_behind_transforms(listed, x)


def _shape_behind_transforms(transforms: Iterable[NamedTransform], x: torch.Tensor) -> Shape:
    for where, transform in transforms:
        try:
            x = transform(x)
        except Exception as error:
            raise ValueError(
                f"{where}: {first_line(error)}; it must take a float batch (n, c, h, w)"
            ) from error
        if not isinstance(x, torch.Tensor) or x.ndim != 4 or len(x) != 2:
            raise ValueError(f"{where}: it must return a batch (n, c, h, w) of as many images")
    return tuple(x.shape[1:])


def _shape_behind_layer(layer: Component, where: str, before: Shape, source: str) -> Shape:
    """Return the shape behind one layer.

    Raises:
        ValueError: The layer cannot be made, or cannot take what it gets; the text has the remedy.
    """
    try:
        with torch.device("meta"):
            made = layer.build()
    except Exception as error:
        raise ValueError(f"{where}: {layer.title}: {first_line(error)}") from error
    _check_channels(made, where, before, source)
    try:
        # Two images, because BatchNorm refuses one image of 1x1 in training.
        out = made(torch.empty((2, *before), device="meta"))
    except Exception as error:
        raise ValueError(
            f"{where}: {layer.title} cannot take {_text(before)} from {source}: "
            f"{first_line(error)}; change its kwargs, the layers before it, or the image's size"
        ) from error
    if not isinstance(out, torch.Tensor):
        raise ValueError(  # noqa: TRY004 - a finding like the others
            f"{where}: {layer.title} returns a {type(out).__name__}, not a tensor"
        )
    return tuple(out.shape[1:])


def _check_channels(made: nn.Module, where: str, before: Shape, source: str) -> None:
    for name in INPUTS:
        expected = getattr(made, name, None)
        at = -1 if name in {"in_features", "input_size"} else 0
        if not isinstance(expected, int) or not before or expected in {0, before[at]}:
            continue
        word = "channels" if at == 0 else "features"
        raise ValueError(
            f"{where}: {type(made).__name__} expects {expected} {word} but gets {before[at]} "
            f"from {source}; set {name}={before[at]}"
        )


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a number"
