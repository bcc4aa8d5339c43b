"""What training recipes add to the plain loop: each is tested for its effect."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.unit.trainer.diary import Diary
from trainer import (
    BatchReport,
    EpochReport,
    Params,
    ParamsError,
    build_classifier,
    fit,
    load_checkpoint,
    train,
)
from trainer.data.dataset import Batches
from trainer.data.splits import open_split
from trainer.data.transforms import Transforms
from trainer.net.fast_elu import fast_elu
from trainer.net.precision import resolve_precision
from trainer.run.schedules import Schedules
from trainer.run.steps import ClassifierSteps

LINEAR: dict[str, Any] = {"net_arch": [], "precision": "float32", "learning_rate_schedule": []}


def weights(logdir: Path, part: str = "model") -> dict[str, torch.Tensor]:
    newest = max((logdir / "checkpoints").glob("epoch-*.pt"))
    content = load_checkpoint(newest).content
    found: dict[str, torch.Tensor] = (
        content["model"] if part == "model" else content["ema"]["weights"]
    )
    return found


def first_loss(params: dict[str, Any], datadir: Path, logdir: Path) -> float:
    diary = Diary()
    fit({**params, "num_epochs": 1}, datadir, logdir, observers=[diary])
    return float(diary.of(BatchReport)[0].loss)


def first_batch(
    params: dict[str, Any], datadir: Path
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an untrained net's logits of the first batch, its labels, and all labels."""
    valid = Params.validate_all(params)
    split = open_split(valid, "train", datadir)
    torch.manual_seed(valid.manual_seed)
    model = build_classifier(valid)
    batches = Batches(
        split,
        Transforms(valid, training=True),
        valid.batch_size,
        seed=valid.manual_seed,
        shuffle=True,
    )
    batch = next(batches.epoch(0))
    return model.logits(batch.x), batch.y, split.labels


def test_a_run_is_the_loop_that_one_would_write_by_hand(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """In float32 it gives a hand-written loop's weights, bit for bit but for the quicker ELU."""
    params = {**small, "precision": "float32", "num_epochs": 1, "learning_rate_schedule": []}
    fit(params, digits, tmp_path)
    valid = Params.validate_all(params)
    torch.manual_seed(17)
    model = build_classifier(valid).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optim = torch.optim.SGD(model.parameters(), lr=0.1)
    split = open_split(valid, "train", digits)
    with fast_elu(model):
        for batch in Batches(split, Transforms(valid), 32, seed=17, shuffle=True).epoch(0):
            optim.zero_grad()
            nn.functional.cross_entropy(model.logits(batch.x), batch.y).backward()
            optim.step()
    for name, expected in model.state_dict().items():
        assert torch.equal(expected, weights(tmp_path)[name]), name


def test_bfloat16_is_near_float32_and_not_the_same(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The precision has an effect, a small one, and the user's model is left as it was."""
    found = {}
    for precision in ("float32", "bfloat16"):
        fit({**small, "precision": precision}, digits, tmp_path / precision)
        found[precision] = weights(tmp_path / precision)["head.weight"]
    assert not torch.equal(found["float32"], found["bfloat16"])
    assert torch.allclose(found["float32"], found["bfloat16"], atol=0.05)
    seen = []
    model = build_classifier(small)

    def step(x: Any, y: Any, net: Any, optim: Any, **_: Any) -> Any:
        seen.append((net is model, net.layers(x).dtype, net(x).dtype))
        optim.step()
        return 0.0, None

    params = {**small, "precision": "bfloat16", "num_epochs": 1}
    train(params, model, step, lambda *_, **__: (0.0, None), digits, tmp_path / "own", observers=[])
    assert seen[0] == (True, torch.float32, torch.float32)
    assert "forward" not in vars(model)


def test_auto_precision_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 where the processor has it, else float32; what is asked for is never changed."""
    for has, expected in (
        ({"avx512_bf16": True}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert expected == resolve_precision("auto", "cpu")
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"


def test_float16_without_a_gpu_is_refused() -> None:
    """The error says what to use instead."""
    with pytest.raises(ParamsError, match="float16 needs a GPU; use bfloat16"):
        Params.validate_all({"precision": "float16", "device": "cpu"})


def test_accumulated_gradients_are_those_of_the_whole_batch(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A batch in four parts gives the same weights within rounding."""
    for parts in (1, 4):
        fit({**small, **LINEAR, "gradient_accumulation": parts}, digits, tmp_path / str(parts))
    one, four = (weights(tmp_path / parts)["head.weight"] for parts in ("1", "4"))
    assert torch.allclose(one, four, atol=1e-6)
    assert not torch.equal(one, four)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_gradients_are_clipped_also_in_ones_own_steps(
    digits: Path, small: dict[str, Any], tmp_path: Path, clip: float | None
) -> None:
    """With SGD and a rate of 1 no step moves the weights by more than the clipping norm."""
    moves = []

    def step(x: Any, y: Any, net: Any, optim: Any, **_: Any) -> Any:
        before = nn.utils.parameters_to_vector(net.parameters())
        optim.zero_grad()
        loss = nn.functional.cross_entropy(net.logits(x), y)
        loss.backward()
        optim.step()
        moves.append(
            float((nn.utils.parameters_to_vector(net.parameters()) - before).detach().norm())
        )
        return loss.item(), None

    params = {**small, **LINEAR, "num_epochs": 1, "learning_rate": 1.0, "clip_norm": clip}
    train(
        params,
        build_classifier(params),
        step,
        lambda *_, **__: (0.0, None),
        digits,
        tmp_path,
        observers=[],
    )
    assert (max(moves) <= 0.0101) is (clip is not None)


def test_the_average_of_the_weights_is_tested_saved_and_served(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """After n steps it is the recursion by hand; the plain weights' figures are raw_..."""
    params = {**small, **LINEAR, "num_epochs": 1, "ema_decay": 0.5, "learning_rate": 0.5}
    trace = []

    class Tracer(nn.Linear):
        pass

    def step(x: Any, y: Any, net: Any, optim: Any, **_: Any) -> Any:
        optim.zero_grad()
        loss = nn.functional.cross_entropy(net.logits(x), y)
        loss.backward()
        optim.step()
        trace.append(net.head.weight.detach().clone())
        return loss.item(), None

    model = build_classifier(params)
    average = model.head.weight.detach().clone()
    diary = Diary()
    train(
        params,
        model,
        step,
        lambda x, y, net, **_: (float(nn.functional.cross_entropy(net.logits(x), y)), None),
        digits,
        tmp_path,
        observers=[diary],
    )
    for number, weight in enumerate(trace, 1):
        average = average.lerp(weight, 1 - min(0.5, (1 + number) / (10 + number)))
    assert torch.allclose(average, weights(tmp_path, "ema")["head.weight"], atol=1e-6)
    assert torch.equal(trace[-1], model.head.weight)
    checkpoint = load_checkpoint(tmp_path / "checkpoints" / "epoch-00001.pt")
    assert torch.allclose(average, checkpoint.classifier().head.weight, atol=1e-6)
    report = diary.of(EpochReport)[0]
    assert report.test_loss != report.test_metrics["raw_loss"]


def test_label_smoothing_and_class_weights_change_the_training_loss_as_defined(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The first loss is torch's cross-entropy with that smoothing or those weights."""
    params = {**small, **LINEAR}
    logits, y, _ = first_batch(params, digits)
    smoothed = nn.functional.cross_entropy(logits, y, label_smoothing=0.2).item()
    assert first_loss({**params, "label_smoothing": 0.2}, digits, tmp_path / "a") == pytest.approx(
        smoothed
    )
    given = [1.0] * 9 + [5.0]
    weighted = nn.functional.cross_entropy(logits, y, weight=torch.tensor(given)).item()
    assert first_loss({**params, "class_weights": given}, digits, tmp_path / "b") == pytest.approx(
        weighted
    )


def test_balanced_class_weights_are_inverse_to_the_frequency() -> None:
    """N / (classes x count): a class that is four times as rare weighs four times as much."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    params = Params.validate_all({"n_classes": 2, "class_weights": "balanced"})
    loss = ClassifierSteps(params, labels)._loss
    assert loss.weight is not None
    assert loss.weight.tolist() == [10 / 16, 10 / 4]


def mixed(**params: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    steps = ClassifierSteps(Params.validate_all(params), torch.zeros(1, dtype=torch.int64))
    torch.manual_seed(3)
    x = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 1, 28, 28).clone()
    return x, *steps._mixed(x, torch.arange(16))


def test_mixup_adds_partners_by_their_share() -> None:
    """Every image is share x itself + (1 - share) x its partner, whose label comes along."""
    x, out, partner, share = mixed(mixup_alpha=1.0)
    assert 0 < share < 1
    assert torch.allclose(share * x + (1 - share) * x[partner], out, atol=1e-5)


def test_cutmix_pastes_a_rectangle_of_the_partner() -> None:
    """The pasted area is the partner's share, to the pixel."""
    x, out, partner, share = mixed(cutmix_alpha=1.0)
    pasted = out != x
    assert torch.equal(x[partner][pasted], out[pasted])
    moved = partner != torch.arange(16)
    assert torch.allclose(pasted[moved].float().mean((1, 2, 3)), torch.tensor(1 - share))


def test_mixing_changes_the_training_and_nothing_else(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A run with mixup has another training loss and still learns."""
    assert first_loss(small, digits, tmp_path / "a") != first_loss(
        {**small, "mixup_alpha": 0.4}, digits, tmp_path / "b"
    )
    params = {**small, "mixup_alpha": 0.2, "cutmix_alpha": 0.2, "num_epochs": 10}
    assert fit(params, digits, tmp_path / "c").metrics["accuracy"] > 0.6


def rates(steps: int, epochs: int, **params: Any) -> list[float]:
    valid = Params.validate_all({"learning_rate": 1.0, **params})
    optim = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    schedules = Schedules(valid, optim)
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            found.append(schedules.learning_rate)
            optim.step()
            schedules.after_batch()
        schedules.after_epoch({})
    return found


def test_warm_up_raises_the_rate_step_by_step() -> None:
    """Four steps of warm-up: a fifth, two fifths, ... and then the schedules alone."""
    steps = rates(3, 2, warmup_steps=4, learning_rate_schedule=[])
    assert steps == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert rates(6, 1, warmup_steps=4, learning_rate_schedule=[])[-1] == pytest.approx(1.0)


def test_a_schedule_can_be_stepped_every_batch() -> None:
    """`every: batch` halves the rate at each batch, `every: epoch` at each epoch."""
    halve = {"class": "torch.optim.lr_scheduler.ExponentialLR", "kwargs": {"gamma": 0.5}}
    assert rates(2, 2, learning_rate_schedule=[{**halve, "every": "batch"}]) == [
        1,
        0.5,
        0.25,
        0.125,
    ]
    assert rates(2, 2, learning_rate_schedule=[halve]) == [1, 1, 0.5, 0.5]


def test_a_plateau_can_be_of_any_metric() -> None:
    """ReduceLROnPlateau with mode max and metric accuracy reacts to accuracy."""
    plateau = {
        "class": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "kwargs": {"mode": "max", "patience": 0, "factor": 0.5},
        "metric": "accuracy",
    }
    valid = Params.validate_all({"learning_rate_schedule": [plateau]})
    optim = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedules = Schedules(valid, optim)
    found = []
    for accuracy in (0.5, 0.6, 0.6):
        schedules.after_epoch({"loss": 1 - accuracy, "accuracy": accuracy})
        found.append(schedules.learning_rate)
    assert found == [1.0, 1.0, 0.5]


def test_training_stops_early_when_nothing_improves(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """With patience 2 and a rate of nothing, three evaluations are enough, and the end is saved."""
    params = {
        **small,
        **LINEAR,
        "num_epochs": 50,
        "learning_rate": 1e-30,
        "early_stopping_patience": 2,
        "save_freq": 50,
    }
    result = fit(params, digits, tmp_path)
    assert (result.status, result.epoch) == ("finished", 3)
    assert result.last is not None
    assert result.last.name == "epoch-00003.pt"


def test_the_best_checkpoint_can_be_that_of_another_metric(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """best.pt by accuracy is the epoch with the highest accuracy."""
    diary = Diary()
    result = fit(
        {**small, "num_epochs": 6, "best_metric": "accuracy", "learning_rate": 0.5},
        digits,
        tmp_path,
        observers=[diary],
    )
    best = max(diary.of(EpochReport), key=lambda one: one.test_metrics["accuracy"])
    assert result.best is not None
    assert load_checkpoint(result.best).metrics["accuracy"] == best.test_metrics["accuracy"]
    assert load_checkpoint(result.best).epoch == best.epoch


def test_only_the_last_checkpoints_are_kept(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """keep_last=2 leaves two numbered files and the best."""
    fit({**small, **LINEAR, "num_epochs": 5, "keep_last": 2}, digits, tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "epoch-00004.pt", "epoch-00005.pt"]


@pytest.mark.parametrize("key", ["best_metric", "early_stopping_metric"])
def test_an_unknown_metric_is_refused_before_the_first_step(
    digits: Path, small: dict[str, Any], tmp_path: Path, key: str
) -> None:
    """The error lists the metrics that there are, and nothing was trained."""
    text = rf"{key}: unknown metric 'acuracy'; available: loss, .*; did you mean accuracy\?"
    with pytest.raises(ParamsError, match=text):
        fit({**small, key: "acuracy"}, digits, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_deterministic_mode_holds_while_the_run_lasts(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Only deterministic algorithms during the run, and torch is as before afterwards."""
    diary = Diary()
    modes = []
    diary.on_batch = lambda batch: modes.append(torch.are_deterministic_algorithms_enabled())  # type: ignore[method-assign]
    fit({**small, **LINEAR, "deterministic": True}, digits, tmp_path, observers=[diary])
    assert all(modes)
    assert not torch.are_deterministic_algorithms_enabled()
