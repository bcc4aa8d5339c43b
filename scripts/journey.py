"""The main job step by step, from images without a model to predictions and a dead letter."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from worker.testing.clients.stream_client import Answers, StreamClient
from worker.testing.clients.topic_reader import Json
from worker.testing.labelled_images import LabelledImages
from worker.testing.programs.worker_process import WorkerProcess

N_TRAIN, N_TEST = 4000, 1000
N_WAITING = 200
STEADY_PER_S = 200.0
ACCURACY = 0.95
JOB = "demo"
WAIT_S = 120.0
BAR = "    epoch {n_fmt}/{total_fmt} |{bar:10}| {elapsed}{postfix}"
"""Fits into 80 columns with loss, accuracy and speed."""


@dataclass
class Result:
    """What the demo has measured, and what is missing."""

    images_sent: int = 0
    predictions: int = 0
    dead_letters: int = 0
    accuracy: float = 0.0
    images_per_s: float = 0.0
    latency_ms: dict[str, float] = field(default_factory=lambda: {"p50": 0.0, "p99": 0.0})
    epochs: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the fields as `--json` prints them."""
        return dict(vars(self))

    def shortcomings(self) -> list[str]:
        """Name what was promised and did not come; empty when all went well."""
        found = []
        if self.predictions + self.dead_letters < self.images_sent:
            found.append(
                f"{self.images_sent} images were sent, and {self.predictions} predictions and"
                f" {self.dead_letters} dead letters came"
            )
        if self.accuracy < ACCURACY:
            found.append(f"the accuracy is {self.accuracy:.3f}, expected was {ACCURACY} or more")
        if self.dead_letters != 1:
            found.append(f"1 broken image was sent, and {self.dead_letters} dead letters came")
        return found


class TrainingEndedError(Exception):
    """The training ended without a model that is served."""


class Journey:
    """The steps of the demo, in the order in which they happen."""

    def __init__(self, worker: WorkerProcess, stream: StreamClient, epochs: int) -> None:
        self.worker = worker
        self.stream = stream
        self.result = Result(epochs=epochs)
        self.test = LabelledImages.read(worker.datadir / "test")
        self.waited: dict[str, Json] = {}
        self.ids = [f"test-{index:04}" for index in range(N_TEST)]

    def run(self) -> None:
        """Take all the steps."""
        self.send_before_there_is_a_model()
        self.train()
        self.predictions_of_what_waited()
        self.steady_stream()
        self.full_speed()
        self.broken_image()
        self.count()

    def send_before_there_is_a_model(self) -> None:
        """Send images that cannot be classified yet."""
        self.stream.send_images(self.test.images[:N_WAITING], self.ids[:N_WAITING])
        self.result.images_sent += N_WAITING
        predictions = self.stream.reader("predictions")
        predictions.read(1.0)
        step(f"Sent {N_WAITING} images; there is no model yet, so they wait in Kafka")
        say(f"predictions so far: {len(predictions.records)}")

    def train(self) -> None:
        """Send the command, and follow the training up to the swap."""
        step(f"Sent a start-training command: {self.result.epochs} epochs on {N_TRAIN} digits")
        params = {
            "num_epochs": self.result.epochs,
            "eval_freq": 1,
            "save_freq": 1,
            "batch_size": 64,
            "eval_batch_size": 250,
            "learning_rate": 0.05,
            "learning_rate_schedule": [
                {
                    "name": "shrink",
                    "class": "torch.optim.lr_scheduler.ExponentialLR",
                    "kwargs": {"gamma": 0.6},
                }
            ],
            "optim_kwargs": {"momentum": 0.9},
            "flip_images": False,
        }
        self.stream.command("start-training", id=JOB, params=params)
        with tqdm(total=self.result.epochs, bar_format=BAR) as bar:
            for event in self.stream.follow_events(WAIT_S):
                self.worker.check()
                if self.is_the_swap(event, bar):
                    break
        model = event["model"]
        step("The worker has swapped the best checkpoint in by itself")
        say(f"{event['checkpoint']}: epoch {model['epoch']}, sha256 {model['sha256'][:12]}...")

    def is_the_swap(self, event: Json, bar: tqdm[Any]) -> bool:
        """Show one event on the progress bar; true for the swap, the last event of a training."""
        kind = str(event["event"])
        if kind == "epoch":
            accuracy = event["test_metrics"].get("accuracy", float("nan"))
            bar.set_postfix_str(
                f"loss {event['train_loss']:.3f}, accuracy {accuracy:.3f},"
                f" {event['images_per_s']:,.0f} images/s"
            )
            bar.update(event["epoch"] - bar.n)
        if kind in {"rejected", "failed", "cancelled", "reload-failed"}:
            raise TrainingEndedError(f"the training gave no model: {kind}: {event.get('reason')}")
        return kind == "reloaded"

    def predictions_of_what_waited(self) -> None:
        """Show the predictions of the images that waited."""
        ids = self.ids[:N_WAITING]
        self.waited = self.stream.predictions(ids, WAIT_S)
        step(f"All {N_WAITING} images that waited have predictions now")
        say(f"{'image':12}{'label':>6}{'predicted':>11}{'confidence':>12}   model")
        for image_id, label in itertools.islice(zip(ids, self.test.labels, strict=False), 8):
            prediction = self.waited[image_id]
            model = f"{prediction['model']['job']}, epoch {prediction['model']['epoch']}"
            say(
                f"{image_id:12}{label:>6}{prediction['label']!s:>11}"
                f"{prediction['confidence']:>12.1%}   {model}"
            )

    def steady_stream(self) -> None:
        """Send the rest of the test split; measure accuracy and latency."""
        images, ids = self.test.images[N_WAITING:], self.ids[N_WAITING:]
        answers = self.ask(images, ids, per_s=STEADY_PER_S)
        if answers.latencies_ms:
            p50, p99 = np.percentile(answers.latencies_ms, [50, 99])
            self.result.latency_ms = {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}
        self.result.accuracy = self.test.accuracy(self.waited | answers.predictions, self.ids)
        step(f"A steady stream of {len(ids)} more test images, {STEADY_PER_S:.0f} per second")
        say(f"accuracy on all {N_TEST} test images: {self.result.accuracy:.3f}")
        say(
            "from sending to reading the prediction: {p50} ms (median), {p99} ms (p99)".format_map(
                self.result.latency_ms
            )
        )

    def full_speed(self) -> None:
        """Send the training split at once; measure images per second."""
        train = LabelledImages.read(self.worker.datadir / "train")
        ids = [f"train-{index:04}" for index in range(N_TRAIN)]
        answers = self.ask(train.images, ids, per_s=None)
        self.result.images_per_s = round(len(answers.predictions) / max(answers.seconds, 1e-9), 1)
        step(f"{N_TRAIN} images as fast as possible")
        say(f"{self.result.images_per_s:,.0f} images/s, with one image per message")

    def ask(self, images: NDArray[np.uint8], ids: list[str], per_s: float | None) -> Answers:
        """Send images and wait for their predictions."""
        self.result.images_sent += len(ids)
        return self.stream.ask(images, ids, per_s=per_s, timeout_s=WAIT_S)

    def broken_image(self) -> None:
        """Send half of an image, and show its dead letter."""
        picture = cv2.imencode(".png", self.test.images[0])[1].tobytes()
        broken = picture[: len(picture) // 2]
        self.stream.send(broken, headers={"content-type": "image/png", "id": "cut-short"})
        self.result.images_sent += 1
        letter = self.stream.dead_letter(broken, WAIT_S)
        step("A broken image stops nothing; it becomes a dead letter")
        say(f"reason: {letter.headers['reason'].decode()}")
        say(f"error:  {letter.headers['error'].decode()}")

    def count(self) -> None:
        """Count all predictions and dead letters."""
        predictions, letters = map(self.stream.reader, ("predictions", "dead-letters"))
        for reader in (predictions, letters):
            reader.read(0.2)
        self.result.predictions = len({record.json["id"] for record in predictions.records})
        self.result.dead_letters = len(letters.records)


def step(text: str) -> None:
    """Print what happens now."""
    click.secho(f"\n{text}", bold=True)


def say(text: str) -> None:
    """Print a detail of it."""
    click.echo(f"    {text}")
