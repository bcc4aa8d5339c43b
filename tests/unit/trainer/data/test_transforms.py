"""Transforms: what happens to images in training only."""

from typing import Any

import pytest
import torch

from trainer import Params, ParamsError
from trainer.data.transforms import Transforms


def test_augmentations_happen_in_training_only_with_draws_for_each_group(
    small: dict[str, Any],
) -> None:
    """Eight groups of a batch are erased at eight places; evaluation sees the plain images."""
    erase = {"class": "torchvision.transforms.v2.RandomErasing", "kwargs": {"p": 1.0}}
    params = Params.validate_all({**small, "augmentations": [erase]})
    images = torch.full((16, 28, 28, 1), 255, dtype=torch.uint8)
    plain = Transforms(params)(images)
    assert (plain == 1).all()
    torch.manual_seed(1)
    erased = Transforms(params, training=True)(images)
    assert ((erased != 1).flatten(1).sum(1) > 0).all()
    places = {tuple(one.flatten().tolist()) for one in erased}
    assert 4 < len(places) <= 8


def test_augmentations_that_change_the_shape_are_refused(small: dict[str, Any]) -> None:
    """The net is made for one shape: training may not see another."""
    crop = {"class": "torchvision.transforms.v2.CenterCrop", "kwargs": {"size": 20}}
    with pytest.raises(ParamsError, match=r"augmentations: they change the .* to \(1, 20, 20\)"):
        Params.validate_all({**small, "augmentations": [crop]})
