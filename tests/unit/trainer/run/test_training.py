"""Training: what users' programs see of it, with their own steps and with the built-in ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    CheckpointError,
    CheckpointSaved,
    DataError,
    EpochReport,
    ParamsError,
    RunStarted,
    build_classifier,
    evaluate,
    fit,
    load_checkpoint,
    predict,
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


def test_fit_learns_the_digits(digits: Path, small: dict[str, Any], tmp_path: Path) -> None:
    """A few epochs on 200 digits are enough to know most of 100 others."""
    diary = Diary()
    result = fit({**small, "num_epochs": 8}, digits, tmp_path, observers=[diary])
    assert (result.status, result.epoch, result.num_epochs) == ("finished", 8, 8)
    assert result.metrics["accuracy"] > 0.75
    assert RunStarted(8, 0, 200, 100, resumed=False, n_batches=7) == diary.pages[0]
    assert list(range(1, 9)) == [report.epoch for report in diary.of(EpochReport)]
    assert len(diary.of(BatchReport)) == 56
    assert result == diary.pages[-1]
    last = diary.of(EpochReport)[-1]
    assert last.test_metrics["accuracy"] == result.metrics["accuracy"]
    assert last.test_loss == result.metrics["loss"]


def test_the_same_seed_gives_the_same_weights(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Two runs of one seed end in the same weights, bit for bit; another seed does not."""
    seeds = {"a": 17, "b": 17, "c": 18}
    weights = {}
    for name, seed in seeds.items():
        result = fit({**small, "manual_seed": seed, "flip_images": True}, digits, tmp_path / name)
        assert result.last is not None
        weights[name] = load_checkpoint(result.last).content["model"]["head.weight"]
    assert torch.equal(weights["a"], weights["b"])
    assert not torch.equal(weights["a"], weights["c"])


def test_evaluation_and_saving_keep_their_frequencies(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Every so many epochs and after the last: evaluated by eval_freq, saved by save_freq."""
    diary = Diary()
    params = {**small, "num_epochs": 5, "eval_freq": 3, "save_freq": 2}
    result = fit(params, digits, tmp_path, observers=[diary])
    evaluated = [one.epoch for one in diary.of(EpochReport) if one.test_loss is not None]
    assert evaluated == [3, 5]
    files = sorted(path.name for path in (tmp_path / "checkpoints").glob("epoch-*"))
    assert files == ["epoch-00002.pt", "epoch-00004.pt", "epoch-00005.pt"]
    assert tmp_path / "checkpoints" / "epoch-00005.pt" == result.last
    assert tmp_path / "checkpoints" / "best.pt" == result.best


def test_the_best_checkpoint_is_that_of_the_lowest_test_loss(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """best.pt holds the epoch whose evaluation was the best, not the last."""
    diary = Diary()
    result = fit(
        {**small, "num_epochs": 6, "learning_rate": 1.0}, digits, tmp_path, observers=[diary]
    )
    reports = diary.of(EpochReport)
    best = min(reports, key=lambda one: one.test_loss)
    assert result.best is not None
    assert best.epoch == load_checkpoint(result.best).epoch
    assert best.epoch == [saved.epoch for saved in diary.of(CheckpointSaved) if saved.is_best][-1]


def test_the_schedules_act_together_every_epoch(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Two schedules multiply; ReduceLROnPlateau reacts to the evaluation loss."""
    exponential = {
        "name": "a",
        "class": torch.optim.lr_scheduler.ExponentialLR,
        "kwargs": {"gamma": 0.5},
    }
    steps = {
        "name": "b",
        "class": torch.optim.lr_scheduler.StepLR,
        "kwargs": {"step_size": 2, "gamma": 0.1},
    }
    diary = Diary()
    params = {
        **small,
        "num_epochs": 3,
        "learning_rate": 0.1,
        "learning_rate_schedule": [exponential, steps],
    }
    fit(params, digits, tmp_path / "a", observers=[diary])
    assert pytest.approx([one.learning_rate for one in diary.of(EpochReport)]) == [
        0.1,
        0.05,
        0.0025,
    ]
    plateau = {
        "class": torch.optim.lr_scheduler.ReduceLROnPlateau,
        "kwargs": {"factor": 0.1, "patience": 0, "threshold": 10.0, "threshold_mode": "abs"},
    }
    diary = Diary()
    fit({**params, "learning_rate_schedule": [plateau]}, digits, tmp_path / "b", observers=[diary])
    assert pytest.approx([one.learning_rate for one in diary.of(EpochReport)]) == [0.1, 0.1, 0.01]


def test_the_optimiser_is_the_one_that_params_name(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """optim_class, optim_kwargs and learning_rate make the optimiser that the steps get."""
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
    """The published call: metrics of the epoch come from the collections, which are then reset."""
    diary = Diary()
    collections = {"train_torchmetrics": metrics(), "test_torchmetrics": metrics()}
    seen: list[set[str]] = []

    def watched(x: Any, y: Any, model: Any, optim: Any, **kwargs: Any) -> Any:
        seen.append(set(kwargs))
        return train_step(x, y, model, optim, **kwargs)

    model = build_classifier(small).to("cpu")
    done = train(
        small, model, watched, test_step, digits, tmp_path, observers=[diary], mine=3, **collections
    )
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
def test_test_metrics_are_computed_once_an_epoch_or_every_step(
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


def test_wrong_params_and_bad_data_are_found_before_anything_is_written(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Errors come first: no log folder is made for a run that cannot start."""
    with pytest.raises(ParamsError):
        fit({**small, "batch_size": 0}, digits, tmp_path / "logs")
    with pytest.raises(DataError):
        fit(small, tmp_path / "nowhere", tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_a_run_that_is_asked_to_stop_saves_and_resumes_bit_for_bit(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Stopped in the middle of an epoch and resumed: same losses, metrics and final weights."""
    params = {**small, "num_epochs": 3, "flip_images": True, "optim_kwargs": {"momentum": 0.9}}
    whole, first, second = Diary(), Diary(), Diary()
    result = fit(params, digits, tmp_path / "whole", observers=[whole])
    stopped = fit(
        params,
        digits,
        tmp_path / "cut",
        observers=[first],
        should_stop=lambda: len(first.of(BatchReport)) == 11,
    )
    assert (stopped.status, stopped.epoch) == ("stopped", 1)
    assert stopped.last is not None
    assert stopped.last.name == "epoch-00001-batch-00004.pt"
    torch.rand(5)
    resumed = fit(params, digits, tmp_path / "cut", observers=[second], resume=True)
    assert second.pages[0].resumed
    losses = [[page.loss for page in diary.of(BatchReport)] for diary in (whole, first, second)]
    assert losses[0] == losses[1] + losses[2]
    assert whole.of(EpochReport)[1].train_metrics == second.of(EpochReport)[0].train_metrics
    assert whole.of(EpochReport)[1].train_loss == second.of(EpochReport)[0].train_loss
    assert result.metrics == resumed.metrics
    assert result.last is not None
    assert resumed.last is not None
    expected, actual = (load_checkpoint(path).content for path in (result.last, resumed.last))
    for name, weight in expected["model"].items():
        assert torch.equal(weight, actual["model"][name]), name
    momentum = [
        content["optimiser"]["state"][0]["momentum_buffer"] for content in (expected, actual)
    ]
    assert torch.equal(*momentum)


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


def test_resume_passes_over_a_damaged_checkpoint(
    digits: Path, small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A newest checkpoint that is cut short is warned of, and the one before it is used."""
    result = fit(small, digits, tmp_path)
    assert result.last is not None
    result.last.write_bytes(result.last.read_bytes()[:-1000])
    diary = Diary()
    fit(small, digits, tmp_path, resume=True, observers=[diary])
    assert "passed over" in caplog.text
    assert [one.epoch for one in diary.of(EpochReport)] == [2]


def test_a_resume_into_another_net_is_refused(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Resuming with another architecture names the checkpoint instead of half loading it."""
    fit(small, digits, tmp_path)
    with pytest.raises(CheckpointError, match=r"does not fit this run"):
        fit({**small, "net_arch": []}, digits, tmp_path, resume=True)


def test_a_new_run_puts_the_checkpoints_of_an_old_one_aside(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Training again into the same folder loses nothing and mixes nothing."""
    fit({**small, "num_epochs": 3}, digits, tmp_path)
    fit({**small, "num_epochs": 1}, digits, tmp_path)
    names = {
        folder.name: len(list(folder.glob("epoch-*"))) for folder in tmp_path.glob("checkpoints*")
    }
    assert names == {"checkpoints": 1, "checkpoints.1": 3}


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_training(
    digits: Path,
    small: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk is said loudly; the training goes on, and only the last save must work."""
    from trainer.checkpoints import folder as checkpoint_folder  # noqa: PLC0415

    real, calls = checkpoint_folder.write_checkpoint, []

    def full_at_first(path: Path, content: dict[str, Any]) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(checkpoint_folder, "write_checkpoint", full_at_first)
    assert fit(small, digits, tmp_path).status == "finished"
    assert "No space left on device" in caplog.text
    assert [path.name for path in (tmp_path / "checkpoints").glob("epoch-*")] == ["epoch-00002.pt"]


def test_evaluate_and_predict_agree_with_the_training(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A checkpoint alone reproduces the metrics of its epoch and names classes for files."""
    result = fit(small, digits, tmp_path)
    assert result.last is not None
    evaluation = evaluate(result.last, digits)
    assert result.metrics == pytest.approx(evaluation.metrics, abs=1e-3)
    assert evaluation.confusion.sum() == 100
    assert [row["images"] for row in evaluation.per_class.values()] == [10.0] * 10
    files = sorted((digits / "test").glob("*.png"))[:20]
    predictions = list(predict(result.last, [*files, digits / "test" / "info.csv"]))
    model, transform = (
        load_checkpoint(result.last).classifier(),
        load_checkpoint(result.last).transform(),
    )
    from trainer.data.decoding import read_image  # noqa: PLC0415

    pixels = torch.stack([torch.from_numpy(read_image(file, (28, 28, 1))) for file in files])
    assert [str(int(index)) for index in model(transform(pixels)).argmax(1)] == [
        one.label for one in predictions[:20]
    ]
    assert "is no image" in str(predictions[20].error)
