"""Images per second of a warm epoch, for contenders in turns, and their ratios."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from operator import truediv
from pathlib import Path
from typing import Any

from benchmarks.bench import Benchmark
from benchmarks.settings import setting
from benchmarks.train_turns import Contender, Turns
from trainer.data.table import read_table

ROUNDS, CHECKPOINTS_A_ROUND = 5, 8
NEVER = 10**6
BARE_TARGET, OWN_STEP_TARGET, CHECKPOINT_TARGET = 0.95, 0.9, 0.98
LIGHTNING_TARGET, REFERENCE_TARGET = 2.0, 2.5
BASE: dict[str, Any] = {
    "device": "cpu",
    "num_epochs": NEVER,
    "eval_freq": 1,
    "eval_batch_size": 512,
    "learning_rate": 0.02,
    "learning_rate_schedule": [],
}
USUAL, REFERENCE = "trainer as it is used", "reference (a PNG a sample)"
WITH, WITHOUT = "trainer, epochs with a checkpoint", "trainer, epochs without one"


def measure_speed(bench: Benchmark, datadir: Path, folder: Path, batch_size: int) -> None:
    """Measure everyone at one batch size."""
    base = {**BASE, "batch_size": batch_size}
    medians = _measured(bench, [*_bare(base), *_peers(base)], datadir, folder)
    pairs = [
        (f"trainer {kind}", f"bare {kind}", OWN_STEP_TARGET if "own" in kind else BARE_TARGET)
        for kind in ("float32", "bfloat16", "own steps")
    ]
    pairs.append((USUAL, REFERENCE, REFERENCE_TARGET))
    lightning = [name for name in medians if name.startswith("Lightning")]
    pairs += [(USUAL, name, LIGHTNING_TARGET) for name in lightning]
    for name, over, target in pairs:
        ratio = medians[name] / medians[over]
        bench.ratio(f"{name} over {over}, batch {batch_size}", ratio, target)


def measure_checkpoints(bench: Benchmark, datadir: Path, folder: Path, batch_size: int) -> None:
    """Measure the cost of a checkpoint, without evaluations, which would save the best ones.

    One process saves every second epoch, and neighbouring epochs are compared: the differences
    between processes, and the drift of one, are several times as large as the cost.
    """
    params = {**BASE, "batch_size": batch_size, "eval_freq": NEVER, "save_freq": 2}
    contender = Contender("trainer", "library", params)
    images = len(read_table(datadir / "train").files)
    rates: dict[str, list[float]] = {WITH: [], WITHOUT: []}
    with Turns(contender, datadir, folder) as trainer:
        trainer.epoch()
        trainer.epoch()  # is saved in the time of the next, which is the first of a pair
        for _ in range(setting("ROUNDS", ROUNDS) * CHECKPOINTS_A_ROUND):
            rates[WITH].append(images / trainer.epoch())
            rates[WITHOUT].append(images / trainer.epoch())
    for name, samples in rates.items():
        bench.row(f"{name}, batch {batch_size}", "images/s", samples)
    ratio = statistics.median(map(truediv, rates[WITH], rates[WITHOUT]))
    bench.ratio(f"{WITH} over those without, batch {batch_size}", ratio, CHECKPOINT_TARGET)


def _bare(base: dict[str, Any]) -> list[Contender]:
    """Return the bare loops, over tensors that are ready, and the trainer without transforms."""
    ready = {**base, "flip_images": False}
    return [
        Contender(f"{name} {kind}", module, {**ready, "precision": precision}, own_steps=own)
        for kind, precision, own in (
            ("float32", "float32", False),
            ("bfloat16", "bfloat16", False),
            ("own steps", "float32", True),
        )
        for name, module in (("bare", "bare"), ("trainer", "library"))
    ]


def _peers(base: dict[str, Any]) -> list[Contender]:
    """Return the usual ways to train, with the published flips; Lightning if it is installed."""
    found = [Contender(USUAL, "library", base), Contender(REFERENCE, "reference", base)]
    if importlib.util.find_spec("pytorch_lightning"):
        found += [
            Contender(f"Lightning {note}", "lightning", {**base, "precision": precision})
            for note, precision in (("with its defaults", "float32"), ("bf16-mixed", "bfloat16"))
        ]
    return found


def _measured(
    bench: Benchmark,
    contenders: Sequence[Contender],
    datadir: Path,
    folder: Path,
) -> dict[str, float]:
    """Let the contenders take turns after one warm-up epoch each; return medians by name."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(Turns(contender, datadir, folder / contender.name))
            for contender in contenders
        ]
        for one in running:
            one.epoch()
        images = len(read_table(datadir / "train").files)
        rates = {contender.name: list[float]() for contender in contenders}
        for _ in range(setting("ROUNDS", ROUNDS)):
            for one in running:
                rates[one.name].append(images / one.epoch())
    for name, samples in rates.items():
        bench.row(f"{name}, batch {contenders[0].params['batch_size']}", "images/s", samples)
    return {name: statistics.median(samples) for name, samples in rates.items()}
