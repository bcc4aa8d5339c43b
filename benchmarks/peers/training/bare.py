"""A bare hand-written loop: float tensors in memory, channels_last, loss and accuracy, no logging.

With a user's own steps it calls those, as the trainer would.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.peers.training import own_steps
from benchmarks.peers.training.job import Job, take_turns
from trainer import Params, build_classifier, set_seeds
from trainer.net.classifier import Classifier, Logits

Split = tuple[Tensor, Tensor]


def main() -> None:
    job = Job.from_arguments()
    params = Params.validate_all(job.params)
    set_seeds(params.manual_seed)
    classifier = build_classifier(params).to(memory_format=torch.channels_last)
    train, test = job.tensors("train"), job.tensors("test")
    make = with_own_steps if job.own_step else plain
    take_turns(make(params, classifier, train, test))


def plain(params: Params, classifier: Classifier, train: Split, test: Split) -> Callable[[], None]:
    """Return a function that trains and evaluates an epoch."""
    model = Logits(classifier)
    optim = torch.optim.SGD(model.parameters(), lr=params.learning_rate)
    halves = params.precision == "bfloat16"

    def epoch() -> None:
        model.train()
        total = 0.0
        for rows in torch.split(torch.randperm(len(train[1])), params.batch_size):
            x, y = train[0][rows], train[1][rows]
            optim.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=halves):
                logits = model(x)
            loss = nn.functional.cross_entropy(logits.float(), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optim.step()
            total += loss.item() * len(y)
        evaluation()

    @torch.no_grad()
    def evaluation() -> tuple[float, float]:
        model.eval()
        total, right = 0.0, 0
        for x, y in zip(*(torch.split(one, params.eval_batch_size) for one in test), strict=True):
            with torch.autocast("cpu", torch.bfloat16, enabled=halves):
                logits = model(x)
            total += nn.functional.cross_entropy(logits.float(), y, reduction="sum").item()
            right += int((logits.argmax(1) == y).sum())
        return total / len(test[1]), right / len(test[1])

    return epoch


def with_own_steps(
    params: Params, model: nn.Module, train: Split, test: Split
) -> Callable[[], None]:
    """Return a function that trains and evaluates an epoch with a user's own steps."""
    optim = torch.optim.SGD(model.parameters(), lr=params.learning_rate)
    metrics = own_steps.collections(params)

    def epoch() -> None:
        order = torch.split(torch.randperm(len(train[1])), params.batch_size)
        batches = ((train[0][rows], train[1][rows]) for rows in order)
        tested = zip(*(torch.split(one, params.eval_batch_size) for one in test), strict=True)
        own_steps.epoch(model, optim, batches, tested, metrics)

    return epoch


if __name__ == "__main__":
    main()
