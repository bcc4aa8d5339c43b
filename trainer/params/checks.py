"""Checks that params alone decide: net, optimiser, schedules, metrics and transforms are tried out.

What the machine, the processes or the disk decide is in `trainer.run.preflight`.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from trainer.params.components import first_line, wrong_kwargs
from trainer.params.fields import Fields
from trainer.params.shapes import output_shape, shape_after_transforms

__all__ = ["cross_field_findings"]


def cross_field_findings(params: Fields, unchecked: Set[str]) -> list[str]:
    """Check keys against each other that are valid on their own.

    Args:
        params: The params, with defaults in place of wrong values.
        unchecked: The keys that have defaults, since their values are wrong or do not matter;
            checks that need them are left out.

    Returns:
        One finding for each thing that is wrong.
    """
    found: list[str] = []
    if not {"optim_class", "optim_kwargs", "learning_rate"} & unchecked:
        found += _optimiser_findings(params)
    if "learning_rate_schedule" not in unchecked:
        found += _schedules_findings(params)
    found += _combinations_findings(params)
    if not {"metrics", "n_classes"} & unchecked:
        found += _metrics_findings(params)
    transforms = {"additional_transforms", "augmentations", "normalise_mean", "normalise_std"}
    if not transforms & unchecked:
        found += _net_findings(params, unchecked)
    return found


def _combinations_findings(params: Fields) -> list[str]:
    """Check values that other values forbid."""
    found = []
    if params.precision == "float16" and not params.device.startswith("cuda"):
        found.append("precision: float16 needs a GPU; use bfloat16 or float32 on the CPU")
    weights = params.class_weights
    if isinstance(weights, tuple) and len(weights) != params.n_classes:
        found.append(f"class_weights: {len(weights)} values for n_classes={params.n_classes}")
    for index, schedule in enumerate(params.learning_rate_schedule):
        if schedule.cls is ReduceLROnPlateau and schedule.every == "batch":
            where = f"learning_rate_schedule[{index}]"
            found.append(
                f"{where}.every: ReduceLROnPlateau is stepped after evaluations; set epoch"
            )
    return found


def _optimiser_findings(params: Fields) -> list[str]:
    found = wrong_kwargs("optim_kwargs", params.optim_class, params.optim_kwargs, {"params", "lr"})
    if found:
        return found
    try:
        params.optim_class([_dummy()], lr=params.learning_rate, **params.optim_kwargs)
    except Exception as error:
        return [f"optim_kwargs: {params.optim_class.__name__}: {first_line(error)}"]
    return []


def _schedules_findings(params: Fields) -> list[str]:
    found = []
    for index, schedule in enumerate(params.learning_rate_schedule):
        where = f"learning_rate_schedule[{index}]"
        wrong = wrong_kwargs(f"{where}.kwargs", schedule.cls, schedule.kwargs, {"optimizer"})
        if not wrong:
            try:
                schedule.build(torch.optim.SGD([_dummy()], lr=params.learning_rate, momentum=0.9))
            except Exception as error:
                wrong = [f"{where}: {schedule.title}: {first_line(error)}"]
        found += wrong
    return found


def _metrics_findings(params: Fields) -> list[str]:
    found = []
    for index, metric in enumerate(params.metrics):
        try:
            tried = metric.build_for(params.n_classes)
            float(tried(torch.eye(params.n_classes), torch.arange(params.n_classes)))
        except Exception as error:
            found.append(f"metrics[{index}]: {metric.title}: {first_line(error)}")
    return found


def _net_findings(params: Fields, unchecked: Set[str]) -> list[str]:
    try:
        shape = shape_after_transforms(params)
        augmented = shape_after_transforms(params, training=True)
    except ValueError as error:
        return [str(error)]
    if augmented != shape:
        return [f"augmentations: they change the image's shape from {shape} to {augmented}"]
    if {"net_arch", "image_height", "image_width", "is_image_color"} & unchecked:
        return []
    return list(output_shape(params.net_arch, shape).findings)


def _dummy() -> Any:
    return torch.nn.Parameter(torch.zeros(1, 1))
