"""The reference way: OpenCV reads a PNG per sample, transforms per sample, metrics per step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.training import own_steps
from benchmarks.peers.training.job import Job, a_sample, take_turns
from trainer import Params, build_classifier, set_seeds


class PngFiles(Dataset[tuple[Tensor, int]]):
    """Images that are read from their file and transformed sample by sample."""

    def __init__(self, job: Job, params: Params, kind: str) -> None:
        split = job.split(kind)
        self.paths = [str(Path(job.datadir) / kind / name) for name in split.files]
        self.labels = split.labels.tolist()
        self.transform = a_sample(params, training=kind == "train")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = cv2.imread(self.paths[index], cv2.IMREAD_GRAYSCALE)
        return self.transform(np.asarray(image, np.uint8)), self.labels[index]


def main() -> None:
    job = Job.from_arguments()
    params = Params.validate_all(job.params)
    set_seeds(params.manual_seed)
    train = DataLoader(PngFiles(job, params, "train"), params.batch_size, shuffle=True)
    test = DataLoader(PngFiles(job, params, "test"), params.eval_batch_size)
    model = build_classifier(params)
    optim = torch.optim.SGD(model.parameters(), lr=params.learning_rate)
    metrics = own_steps.collections(params)
    take_turns(lambda: own_steps.epoch(model, optim, train, test, metrics))


if __name__ == "__main__":
    main()
