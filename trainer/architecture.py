"""The net's shapes, found without computing anything, and what is wrong with them in words.

Layers are made and run on torch's meta device: no memory, no arithmetic, whatever their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainer.components import Component, first_line, wrong_kwargs

Shape = tuple[int, ...]

# What a layer calls the number of channels that it takes, and the one that it gives.
TAKES = ("in_channels", "num_features", "in_features", "num_channels", "input_size")
GIVES = ("out_channels", "out_features")


@dataclass(frozen=True)
class Outline:
    """What comes out of the layers.

    Attributes:
        shape: Of one image after the last layer, without the batch: `(256, 1, 1)`.
        findings: What is wrong, a sentence each; when there is any, `shape` means nothing.
    """

    shape: Shape
    findings: tuple[str, ...] = ()


def outline(layers: Sequence[Component], image: Shape) -> Outline:
    """Follow an image of shape `(channels, height, width)` through the layers.

    The walk ends at the first layer whose shapes do not fit; wrong keyword arguments are found in
    every layer.
    """
    wrong = [
        finding
        for index, layer in enumerate(layers)
        for finding in wrong_kwargs(f"net_arch[{index}]", layer.cls, layer.kwargs, ())
    ]
    if wrong:
        return Outline((), tuple(wrong))
    source, current = "the image", image
    for index, layer in enumerate(layers):
        try:
            after = _after(layer, f"net_arch[{index}]", current, source)
        except ValueError as error:
            return Outline((), (str(error),))
        if after[:1] != current[:1] or any(name in layer.kwargs for name in GIVES):
            source = f"net_arch[{index}]"
        current = after
    return Outline(current)


def _after(layer: Component, where: str, before: Shape, source: str) -> Shape:
    """Return the shape behind one layer.

    Raises:
        ValueError: It cannot be made or cannot take what it gets, with the remedy.
    """
    try:
        with torch.device("meta"):
            made = layer.build()
    except Exception as error:
        raise ValueError(f"{where}: {layer.title}: {first_line(error)}") from error
    _check_channels(made, where, before, source)
    try:
        # Two images: a batch of one is refused by BatchNorm behind a 1x1 image in training.
        out = made(torch.empty((2, *before), device="meta"))
    except Exception as error:
        raise ValueError(
            f"{where}: {layer.title} cannot take {_text(before)} from {source}: "
            f"{first_line(error)}; change its kwargs, the layers before it, or the image's size"
        ) from error
    if not isinstance(out, torch.Tensor):
        raise ValueError(  # noqa: TRY004 - a finding like the others
            f"{where}: {layer.title} gives a {type(out).__name__}, and a layer must give a tensor"
        )
    return tuple(out.shape[1:])


def _check_channels(made: nn.Module, where: str, before: Shape, source: str) -> None:
    for name in TAKES:
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
