"""The trainer as its users run it, with TensorBoard, history, evaluation and checkpoints."""

from __future__ import annotations

from benchmarks.peers.training.job import Job, your_turn
from benchmarks.peers.training.own_steps import collections, test_step, train_step
from trainer import (
    EpochReport,
    Observer,
    Params,
    RunStarted,
    build_classifier,
    fit,
    set_seeds,
    train,
)


class Turns(Observer):
    """Holds a run between epochs until it is its turn again."""

    def __init__(self) -> None:
        self.is_over = False

    def on_start(self, started: RunStarted) -> None:  # noqa: ARG002 - signature of an observer
        self.is_over = not your_turn()

    def on_epoch(self, report: EpochReport) -> None:  # noqa: ARG002
        self.is_over = not your_turn()

    def have_ended(self) -> bool:
        return self.is_over


def main() -> None:
    job, turns = Job.from_arguments(), Turns()
    params = Params.validate_all(job.params)
    if not job.own_step:
        fit(params, job.datadir, job.logdir, observers=[turns], should_stop=turns.have_ended)
        return
    set_seeds(params.manual_seed)
    train(
        params, build_classifier(params), train_step, test_step, job.datadir, job.logdir,
        observers=[turns], should_stop=turns.have_ended, **collections(params),
    )  # fmt: skip


if __name__ == "__main__":
    main()
