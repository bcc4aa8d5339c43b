"""The effects of the training recipes on the plain loop."""

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
    build_classifier,
    fit,
    load_checkpoint,
    train,
)
from trainer.data.batches import Batches
from trainer.data.splits import open_split
from trainer.data.transforms import Transforms
from trainer.net.fast_elu import fast_elu
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
    """Return an untrained net's logits for the first batch, its labels, and all labels."""
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
    batch = next(batches.training_batches(0))
    return model.logits(batch.x), batch.y, split.labels


def test_a_run_is_the_loop_that_one_would_write_by_hand(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """In float32 the weights are those of a hand-written loop with the same ELU, bit for bit."""
    params = {**small, "precision": "float32", "num_epochs": 1, "learning_rate_schedule": []}
    fit(params, digits, tmp_path)
    valid = Params.validate_all(params)
    torch.manual_seed(17)
    model = build_classifier(valid).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optim = torch.optim.SGD(model.parameters(), lr=0.1)
    split = open_split(valid, "train", digits)
    with fast_elu(model):
        for batch in Batches(split, Transforms(valid), 32, seed=17, shuffle=True).training_batches(
            0
        ):
            optim.zero_grad()
            nn.functional.cross_entropy(model.logits(batch.x), batch.y).backward()
            optim.step()
    for name, expected in model.state_dict().items():
        assert torch.equal(expected, weights(tmp_path)[name]), name


def test_bfloat16_is_near_float32_and_not_the_same(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The precision has a small effect, and the user's model is left as it was."""
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


def test_accumulated_gradients_are_those_of_the_whole_batch(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """A batch in four parts leads to the same weights within rounding."""
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
    """It follows the formula; the metrics of the plain weights are raw_..."""
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
    """The first loss is torch's cross-entropy with the same smoothing or weights."""
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
    """It is n / (classes x count): a class that is four times as rare weighs four times as much."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    params = Params.validate_all({"n_classes": 2, "class_weights": "balanced"})
    loss = ClassifierSteps(params, labels)._loss
    assert loss.weight is not None
    assert loss.weight.tolist() == [10 / 16, 10 / 4]


def mixed(**params: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    steps = ClassifierSteps(Params.validate_all(params), torch.zeros(1, dtype=torch.int64))
    torch.manual_seed(3)
    x = torch.arange(16.0).view(16, 1, 1, 1).expand(16, 1, 28, 28).clone()
    return x, *steps._mix(x, torch.arange(16))


def test_mixup_adds_partners_by_their_share() -> None:
    """Each image becomes share x itself + (1 - share) x its partner, whose label is returned."""
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


def test_only_the_last_checkpoints_are_kept(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """With keep_last=2 there are two numbered files and the best."""
    fit({**small, **LINEAR, "num_epochs": 5, "keep_last": 2}, digits, tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "epoch-00004.pt", "epoch-00005.pt"]


def test_deterministic_mode_holds_while_the_run_lasts(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Only deterministic algorithms are used during the run; afterwards torch is as before."""
    diary = Diary()
    modes = []
    diary.on_batch = lambda batch: modes.append(torch.are_deterministic_algorithms_enabled())  # type: ignore[method-assign]
    fit({**small, **LINEAR, "deterministic": True}, digits, tmp_path, observers=[diary])
    assert all(modes)
    assert not torch.are_deterministic_algorithms_enabled()
