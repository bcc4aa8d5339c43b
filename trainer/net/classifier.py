"""The classifier: the layers of `net_arch`, a fully connected layer, Softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from trainer.errors import ParamsError
from trainer.params.components import first_line
from trainer.params.params import Params
from trainer.params.shapes import output_shape, shape_after_transforms

__all__ = ["Classifier", "Logits", "build_classifier", "new_classifier"]


class Classifier(nn.Module):
    """A classifier that returns probabilities; `logits` returns the scores before Softmax."""

    def __init__(self, layers: nn.Sequential, features: int, n_classes: int) -> None:
        super().__init__()
        self.layers = layers
        self.head = nn.Linear(features, n_classes)
        self.softmax = nn.Softmax(dim=1)

    def logits(self, x: Tensor) -> Tensor:
        """Return the scores before Softmax, shape `(n, n_classes)`, for `x` of `(n, c, h, w)`."""
        return cast("Tensor", self.head(torch.flatten(self.layers(x), 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities, shape `(n, n_classes)`, for `x` of `(n, c, h, w)`."""
        logits = self.logits(x)
        # In half precision the logarithms of probabilities, which a loss takes, are too coarse.
        return cast("Tensor", self.softmax(logits.float() if logits.itemsize < 4 else logits))


class Logits(nn.Module):
    """A classifier without its final Softmax; it shares the weights."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores before Softmax, shape `(n, n_classes)`."""
        return self.classifier.logits(x)


def build_classifier(params: Mapping[str, Any] | Params) -> Classifier:
    """Return a new classifier on the CPU.

    Args:
        params: The published dict or validated params; `net_arch`, `n_classes`, the image size and
            the number of channels are used.

    Returns:
        A module whose output is probabilities, shape `(n, n_classes)`.

    Raises:
        ParamsError: The params are wrong; the error names each layer that does not fit.
    """
    return new_classifier(Params.validate_all(params))


def new_classifier(params: Params, features: int | None = None) -> Classifier:
    """Return a new classifier from params that are validated.

    Args:
        params: What describes it.
        features: Number of values of an image behind the layers, where it is known from weights;
            by default it is worked out, which takes torch a second of importing.

    Raises:
        ParamsError: There is not enough memory for its weights.
    """
    if features is None:
        features = math.prod(output_shape(params.net_arch, shape_after_transforms(params)).shape)
    try:
        layers = nn.Sequential(*(layer.build() for layer in params.net_arch))
        return Classifier(layers, features, params.n_classes)
    except (RuntimeError, MemoryError) as error:
        why = first_line(error)
        finding = f"net_arch: there is not enough memory for the net; make it smaller ({why})"
        raise ParamsError("wrong params", [finding]) from error
