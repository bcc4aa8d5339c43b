"""Classifiers to serve: trained in seconds, in a log folder as a worker leaves it."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import trainer
from tests.digits import write_digits
from worker.images.deployment import Deployment
from worker.images.model import load_model
from worker.images.predictor import Predictor

PARAMS = {
    "batch_size": 64,
    "eval_batch_size": 200,
    "eval_freq": 1,
    "flip_images": False,
    "num_epochs": 3,
    "optim_kwargs": {"momentum": 0.9},
    "learning_rate": 0.05,
    "save_freq": 1,
}

Images = NDArray[np.uint8]


def best_of(job: str) -> str:
    """Return a job's best checkpoint as commands name it."""
    return f"{job}/checkpoints/best.pt"


def train_models(folder: Path, jobs: tuple[str, ...] = ("first",), n_train: int = 1000) -> Path:
    """Train the published net once for each job, deploy the first, and return the log folder."""
    write_digits(folder / "data", n_train, 200)
    for seed, job in enumerate(jobs):
        params = PARAMS | {"manual_seed": seed + 1}
        trainer.fit(params, folder / "data", folder / "logs" / job, should_stop=lambda: False)
    deploy(folder / "logs", jobs[0])
    return folder / "logs"


def deploy(logdir: Path, job: str) -> None:
    """Have the workers that start on a log folder serve a job's best checkpoint."""
    deployment = Deployment(logdir, Predictor(on_first_model=lambda: None), load=load_model)
    asyncio.run(deployment.reload(best_of(job), job=job, order=(0, 0)))


def read_images(folder: Path) -> Images:
    """Return the test digits (N, 28, 28) that `train_models` has written."""
    with (folder / "data" / "test" / "info.csv").open(newline="") as table:
        files = [row["files"] for row in csv.DictReader(table)]
    paths = [str(folder / "data" / "test" / name) for name in files]
    return np.stack([cv2.imread(path, cv2.IMREAD_GRAYSCALE) for path in paths]).astype(np.uint8)
