"""Classifiers to serve: trained in seconds, in a log folder as a worker leaves it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer import fit
from worker.images.deployment import Deployment
from worker.images.predictor import Predictor

__all__ = ["QUICK_PARAMS", "best_of", "deploy", "train_models"]

QUICK_PARAMS: dict[str, Any] = {
    "batch_size": 64,
    "eval_batch_size": 200,
    "eval_freq": 1,
    "flip_images": False,
    "num_epochs": 4,
    "optim_kwargs": {"momentum": 0.9},
    "learning_rate": 0.05,
    "save_freq": 1,
}
"""A few quick epochs, after which the published net tells digits apart well enough."""


def best_of(job: str) -> str:
    """Return a job's best checkpoint as commands name it."""
    return f"{job}/checkpoints/best.pt"


def train_models(folder: Path, jobs: Sequence[str] = ("first",)) -> Path:
    """Train the published net on `folder/data` once for each job, with a seed of its own.

    The first job's best checkpoint is deployed. Returns the log folder, `folder/logs`.
    """
    for seed, job in enumerate(jobs, start=1):
        params = QUICK_PARAMS | {"manual_seed": seed}
        fit(params, folder / "data", folder / "logs" / job, should_stop=lambda: False)
    deploy(folder / "logs", jobs[0])
    return folder / "logs"


def deploy(logdir: Path, job: str) -> None:
    """Have the workers that start on a log folder serve a job's best checkpoint."""
    from worker.images.model import load_model  # noqa: PLC0415 - imports torch

    deployment = Deployment(logdir, Predictor(on_first_model=lambda: None), load=load_model)
    asyncio.run(deployment.reload(best_of(job), job=job, order=(0, 0)))
