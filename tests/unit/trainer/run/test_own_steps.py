"""Training with steps of one's own, as users' programs do it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    EpochReport,
    build_classifier,
    load_checkpoint,
    train,
)


def metrics() -> torchmetrics.MetricCollection:
    settings = {"task": "multiclass", "num_classes": 10, "average": "macro"}
    return torchmetrics.MetricCollection(
        [
            torchmetrics.Accuracy(**settings),
            torchmetrics.Precision(**settings),
            torchmetrics.Recall(**settings),
            torchmetrics.F1Score(**settings),
        ]
    )


def loss_func(y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.nll_loss(y_pred.clamp(min=1e-7).log(), y)


def train_step(x: Any, y: Any, model: Any, optim: Any, **kwargs: Any) -> Any:
    optim.zero_grad()
    y_pred = model(x)
    loss = loss_func(y_pred, y)
    loss.backward()
    optim.step()
    values = kwargs["train_torchmetrics"](y_pred, y)
    return loss.item(), {name: float(value) for name, value in values.items()}


def test_step(x: Any, y: Any, model: Any, **kwargs: Any) -> Any:
    y_pred = model(x)
    kwargs["test_torchmetrics"].update(y_pred, y)
    return loss_func(y_pred, y).item(), None


test_step.__test__ = False  # type: ignore[attr-defined]


def test_the_optimiser_is_the_one_that_params_name(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The steps get an optimiser made from optim_class, optim_kwargs and learning_rate."""
    seen = []

    def step(x: Any, y: Any, model: Any, optim: Any, **kwargs: Any) -> Any:
        seen.append(optim)
        optim.step()
        return 0.0, None

    params = {
        **small,
        "num_epochs": 1,
        "optim_class": torch.optim.AdamW,
        "optim_kwargs": {"betas": (0.8, 0.9)},
        "learning_rate": 0.02,
    }
    train(params, build_classifier(params), step, lambda *_, **__: (0.0, None), digits, tmp_path)
    assert isinstance(seen[0], torch.optim.AdamW)
    assert (seen[0].defaults["betas"], seen[0].defaults["lr"]) == ((0.8, 0.9), 0.02)


def test_train_with_ones_own_steps_returns_true_and_computes_the_collections(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The published call: the epoch's metrics come from the collections, which are then reset."""
    diary = Diary()
    collections = {"train_torchmetrics": metrics(), "test_torchmetrics": metrics()}
    seen: list[set[str]] = []

    def watched(x: Any, y: Any, model: Any, optim: Any, **kwargs: Any) -> Any:
        seen.append(set(kwargs))
        return train_step(x, y, model, optim, **kwargs)

    params = small | {"precision": "float32"}  # as the classifier that is loaded computes
    model = build_classifier(params).to("cpu")
    more: dict[str, Any] = {"observers": [diary], "mine": 3, **collections}
    done = train(params, model, watched, test_step, digits, tmp_path, **more)
    assert done is True
    assert {"train_torchmetrics", "test_torchmetrics", "mine"} == seen[0]
    report = diary.of(EpochReport)[-1]
    names = {"MulticlassAccuracy", "MulticlassPrecision", "MulticlassRecall", "MulticlassF1Score"}
    assert names == set(report.test_metrics) == set(report.train_metrics)
    assert not any(one.update_called for one in collections["test_torchmetrics"].values())
    expected = metrics()
    loaded = load_checkpoint(tmp_path / "checkpoints" / "epoch-00002.pt")
    from trainer import get_dataloader  # noqa: PLC0415

    for x, y in get_dataloader(small, "test", digits):
        expected.update(loaded.classifier()(x), y)
    assert {name: float(one) for name, one in expected.compute().items()} == report.test_metrics


@pytest.mark.parametrize(("frequency", "expected"), [("epoch", 0.25), ("step", 2.0)])
def test_test_metrics_are_computed_per_epoch_or_per_step(
    digits: Path, small: dict[str, Any], tmp_path: Path, frequency: str, expected: float
) -> None:
    """`eval_metric_compute_freq` decides between the collection and the mean of the steps."""

    class Quarter:
        update_called = True

        def compute(self) -> dict[str, float]:
            return {"share": 0.25}

        def reset(self) -> None:
            pass

    sizes = iter([1.0, 3.0])
    params = {
        **small,
        "num_epochs": 1,
        "eval_batch_size": 50,
        "eval_metric_compute_freq": frequency,
    }
    diary = Diary()
    train(
        params, build_classifier(params), train_step,
        lambda *_, **__: (1.0, {"share": next(sizes)}), digits, tmp_path,
        observers=[diary], train_torchmetrics=metrics(), test_torchmetrics=Quarter(),
    )  # fmt: skip
    assert {"share": expected} == diary.of(EpochReport)[0].test_metrics


def test_ones_own_steps_resume_bit_for_bit_with_their_collections(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A metric collection's counts survive a stop in the middle of an epoch."""

    def run(name: str, diary: Diary, **more: Any) -> bool:
        torch.manual_seed(3)
        collections = {"train_torchmetrics": metrics(), "test_torchmetrics": metrics()}

        def step(*args: Any, **kwargs: Any) -> Any:
            return train_step(*args, **kwargs)[0], None

        return train(
            small,
            build_classifier(small),
            step,
            test_step,
            digits,
            tmp_path / name,
            observers=[diary],
            **collections,
            **more,
        )

    whole, first, second = Diary(), Diary(), Diary()
    assert run("whole", whole)
    assert not run("cut", first, should_stop=lambda: len(first.of(BatchReport)) == 4)
    assert run("cut", second, resume=True)
    expected, actual = (
        [
            (one.train_loss, one.train_metrics, one.test_loss, one.test_metrics)
            for one in diary.of(EpochReport)
        ]
        for diary in (whole, second)
    )
    assert expected == actual
