"""How many images per second does a worker classify, compared with other ways?

The others are hand-written loops and stream frameworks. All run in turns on one real Kafka, on
topics that were filled before, with the published net at 28x28, and none may lose an image.
DARKROOM_BENCH_IMAGES and DARKROOM_BENCH_ROUNDS shorten a run.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import Benchmark
from benchmarks.peers.job import PlainModel
from benchmarks.settings import setting
from benchmarks.stage import (
    IMAGES_IN_A_BATCH,
    THREADS,
    WORKER,
    Contender,
    Run,
    Stage,
    stage,
)
from worker.testing.chaos.image_load import Pixels

QUIX = "quixstreams==3.28.1"
N_IMAGES, ROUNDS = 20_000, 3
REFERENCE, BY_HAND = "kafka-python, one at a time", "confluent-kafka by hand, same model"
FRAMEWORKS = ("Faust noack_take", "FastStream", "Quix Streams")
MODEL_RATE = """
import sys, time
import numpy, torch
from worker.images.model import load_model
images = numpy.load(sys.argv[2])
model = load_model(sys.argv[1], "first")
for size in (64, 128, 256, 512):
    batch = numpy.resize(images, (size, 28, 28, 1))
    model.probabilities(batch)
    rates = []
    for _ in range(5):
        begin, n = time.perf_counter(), 0
        while time.perf_counter() - begin < 0.4:
            model.probabilities(batch)
            n += size
        rates.append(n / (time.perf_counter() - begin))
    print(sorted(rates)[2])
"""


def measure(bench: Benchmark) -> None:
    """Measure raw bytes, JSON, and batches in npy."""
    n_images, rounds = setting("IMAGES", N_IMAGES), setting("ROUNDS", ROUNDS)
    n_images -= n_images % IMAGES_IN_A_BATCH
    with stage("first") as here:
        rates: dict[tuple[str, str], list[float]] = defaultdict(list)
        lost: dict[tuple[str, str], int] = defaultdict(int)
        topics = {form: here.fill(form, n_images) for form in ("raw", "json", "npy")}
        last: Run | None = None
        for _ in range(rounds):
            for form, topic in topics.items():
                for contender in contenders(form):
                    run = here.run(contender, topic, n_images)
                    rates[contender.name, form].append(run.images_per_s)
                    lost[contender.name, form] += run.n_lost
                    print(f"{form} {contender.name}: {run.images_per_s:.0f}/s", file=sys.stderr)
                    if contender.name == WORKER and form == "raw":
                        last = run
            rates["the model alone", "at its best"].append(best_model_rate(here))
        assert last is not None
        report(bench, rates, lost)
        report_agreement(bench, here, last)


def contenders(form: str, within_s: float = 0.5) -> list[Contender]:
    """Return the contenders for a form of images; frameworks that are not installed are left out.

    `within_s` is how long Quix may collect images for a checkpoint.
    """
    if form == "npy":
        return [Contender(WORKER)]
    found = [Contender(WORKER), Contender(BY_HAND, "handwritten")]
    found.append(Contender("Faust noack_take", "stock_faust"))
    if importlib.util.find_spec("faststream"):
        found.append(Contender("FastStream", "faststream"))
    if (folder := quix_folder()) is not None:
        found.append(
            Contender(
                "Quix Streams", "quix", {"PYTHONPATH": str(folder), "WITHIN_S": str(within_s)}
            )
        )
    return [Contender(REFERENCE, "reference"), *found] if form == "json" else found


def quix_folder() -> Path | None:
    """Return the folder with Quix and its dependencies; None if pip cannot install them."""
    folder = Path(os.environ.get("DARKROOM_QUIX", Path(__file__).parents[1] / "build" / "quix"))
    if not (folder / "quixstreams").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), QUIX]
        if subprocess.run(pip, check=False, capture_output=True).returncode:
            return None
    return folder


def best_model_rate(here: Stage) -> float:
    """Return images per second of the served model alone, at its best batch size."""
    np.save(here.folder / "images.npy", here.images)
    command = [sys.executable, "-c", MODEL_RATE, str(here.checkpoint), "images.npy"]
    environment = os.environ | {
        "OMP_NUM_THREADS": str(THREADS),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    out = subprocess.run(command, cwd=here.folder, env=environment, capture_output=True, check=True)
    return max(map(float, out.stdout.split()))


def report(
    bench: Benchmark, rates: dict[tuple[str, str], list[float]], lost: dict[tuple[str, str], int]
) -> None:
    """Report the rates and their ratios."""
    medians = {
        (name, form): bench.row(
            f"{name}, {form}" + (f", LOST {lost[name, form]}" if lost[name, form] else ""),
            "images/s",
            samples,
        ).median
        for (name, form), samples in rates.items()
    }
    n_lost = sum(lost[WORKER, form] for form in ("raw", "json", "npy"))
    bench.ratio("lost images of the worker", n_lost, 0, at_most=True)
    bench.ratio("JSON over reference", medians[WORKER, "json"] / medians[REFERENCE, "json"], 20)
    for form in ("raw", "json"):
        own = medians[WORKER, form]
        peers = [medians[name, form] for name in FRAMEWORKS if (name, form) in medians]
        bench.ratio(f"{form} over the best framework", own / max(peers), 2.5)
        bench.ratio(f"{form} over the hand-written loop", own / medians[BY_HAND, form], 0.9)
    alone = medians["the model alone", "at its best"]
    bench.ratio("npy batches over the model alone", medians[WORKER, "npy"] / alone, 0.8)


def report_agreement(bench: Benchmark, here: Stage, run: Run) -> None:
    """Compare the predictions with those of float32."""
    expected = float32_scores(here)
    n_same, furthest = 0, 0.0
    for name, prediction in run.predictions.items():
        scores = expected[int(name) % len(expected)]
        n_same += int(scores.argmax()) == prediction["index"]
        for one in prediction["top_k"]:
            furthest = max(furthest, abs(float(scores[one["index"]]) - one["confidence"]))
    bench.ratio("same labels as float32", n_same / len(run.predictions), 0.999)
    bench.ratio("furthest probability from float32", furthest, 0.02, at_most=True)


def float32_scores(here: Stage) -> Any:
    """Return NxC probabilities of the stage's images in float32."""
    images: Pixels = here.images
    return PlainModel(here.checkpoint).scores(list(images))
