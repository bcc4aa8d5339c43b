"""The state of a run, as a checkpoint holds it: all to go on bit for bit, and all to serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trainer.checkpoints import FORMAT, Checkpoint, versions
from trainer.seeds import random_states, restore_random_states

if TYPE_CHECKING:
    from trainer.loop import Run


def content_of(run: Run) -> dict[str, Any]:
    """Return everything that a checkpoint holds."""
    return {
        "format": FORMAT,
        "params": run.params.as_json(),
        "class_names": list(run.train_batches.split.class_names),
        "metrics": dict(run.metrics),
        "versions": versions(),
        "model": run.model.state_dict(),
        "ema": run.ema.state_dict() if run.ema else None,
        "optimiser": run.optim.state_dict(),
        "schedules": run.schedules.state_dict(),
        "position": vars(run.position).copy(),
        "best": run.best.state_dict(),
        "stopping": run.stopping.state_dict(),
        "skipped": run.guard.skipped,
        "averages": run.averages.state_dict(),
        "train_collection": run.train_collection.state_dict(),
        "random_states": random_states(),
    }


def restore(run: Run, checkpoint: Checkpoint) -> None:
    """Put back what `content_of` returned when the checkpoint was written.

    Raises:
        RuntimeError, ValueError, KeyError, TypeError: The run is of another shape.
    """
    content = checkpoint.content
    run.model.load_state_dict(content["model"])
    if run.ema and content["ema"]:
        run.ema.load_state_dict(content["ema"])
    run.optim.load_state_dict(content["optimiser"])
    run.schedules.load_state_dict(content["schedules"])
    for name, value in content["position"].items():
        setattr(run.position, name, value)
    run.best.load_state_dict(content["best"])
    run.stopping.load_state_dict(content["stopping"])
    run.guard.restart(content["skipped"])
    run.averages.load_state_dict(content["averages"])
    run.train_collection.load_state_dict(content["train_collection"])
    run.metrics = dict(content["metrics"])
    restore_random_states(content["random_states"])
    run.resumed = True
