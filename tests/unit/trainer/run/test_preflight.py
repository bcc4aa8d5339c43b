"""The checks before a run, besides those that params alone decide."""

from pathlib import Path
from typing import Any

import pytest

from trainer import Params, ParamsError, TrainerError
from trainer.run.preflight import check_run


def findings(params: dict[str, Any], logdir: Path, *, own_steps: bool = False) -> tuple[str, ...]:
    with pytest.raises(ParamsError) as caught:
        check_run(Params.validate_all(params), logdir, own_steps=own_steps)
    return caught.value.findings


def test_everything_that_stops_a_run_is_in_one_error(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation in several processes and an unknown metric are found together."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    params = {**small, "gradient_accumulation": 2, "best_metric": "acuracy"}
    accumulation, metric = findings(params, tmp_path)
    assert accumulation.startswith("gradient_accumulation: several processes share")
    assert metric.startswith("best_metric: unknown metric 'acuracy'; available: loss, accuracy")
    assert metric.endswith("; did you mean accuracy?")


def test_your_own_steps_may_name_their_own_metrics(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their metrics are known only after the first evaluation; they may accumulate as they like."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    params = Params.validate_all({**small, "gradient_accumulation": 2, "best_metric": "mine"})
    assert check_run(params, tmp_path, own_steps=True) == tmp_path


def test_the_raw_metrics_are_known_with_averaged_weights(
    small: dict[str, Any], tmp_path: Path
) -> None:
    """`raw_accuracy` exists when there are two sets of weights to test."""
    params = {**small, "best_metric": "raw_accuracy"}
    assert len(findings(params, tmp_path)) == 1
    check_run(Params.validate_all({**params, "ema_decay": 0.9}), tmp_path)


def test_float16_is_refused_for_your_own_steps(small: dict[str, Any], tmp_path: Path) -> None:
    """Only the built-in steps scale their gradients; the error names what works."""
    params = Params.validate_all(small).model_copy(update={"precision": "float16"})
    with pytest.raises(ParamsError, match="use bfloat16 or float32"):
        check_run(params, tmp_path, own_steps=True)


def test_a_folder_that_cannot_be_written_is_refused(small: dict[str, Any], tmp_path: Path) -> None:
    """The error names the folder; one that can be written is not made yet."""
    params = Params.validate_all(small)
    (tmp_path / "file").touch()
    with pytest.raises(TrainerError, match="file/logs cannot be written"):
        check_run(params, tmp_path / "file" / "logs")
    assert check_run(params, tmp_path / "logs") == tmp_path / "logs"
    assert not (tmp_path / "logs").exists()
