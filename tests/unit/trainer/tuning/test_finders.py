"""The learning-rate finder: its suggestion, and when it refuses to make one."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.diary import Diary
from trainer import BatchReport, DataError, ParamsError, TrainerError, find_learning_rate, fit
from trainer.tuning.learning_rate import curve_page


def test_the_suggested_learning_rate_learns_and_far_lower_ones_do_not(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Trained at the suggestion, the net knows most digits; at a thousandth of it, few."""
    found = find_learning_rate({**small, "learning_rate": 5.0}, digits)
    assert found == find_learning_rate(small, digits)  # the learning_rate of the params is not used
    accuracies = [
        fit(
            {**small, "num_epochs": 6, "eval_freq": 6, "learning_rate": rate},
            digits,
            tmp_path / str(rate),
        ).metrics["accuracy"]
        for rate in (found.suggestion, found.suggestion / 1000)
    ]
    assert accuracies[0] > 0.6
    assert accuracies[1] < 0.3


def test_the_rates_grow_exponentially_until_the_loss_diverges(
    digits: Path, small: dict[str, Any]
) -> None:
    """One rate per step, from the lowest on; it ends at 4 times the best smoothed loss."""
    found = find_learning_rate(small, digits, lowest=1e-4, highest=1e3, steps=60)
    ratios = [after / before for before, after in itertools.pairwise(found.rates)]
    assert ratios == pytest.approx([(1e7) ** (1 / 59)] * len(ratios))
    assert found.rates[0] == pytest.approx(1e-4)
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert found.ended == "diverged"
    assert found.smoothed[-1] > 4 * min(found.smoothed) >= found.smoothed[-2]
    assert all(map(math.isfinite, found.losses))


def test_the_loss_falls_fastest_at_the_suggestion(digits: Path, small: dict[str, Any]) -> None:
    """The smoothed loss falls faster at no other rate, apart from the first and last few."""
    found = find_learning_rate(small, digits)
    at = min(range(len(found.rates)), key=lambda one: abs(found.rates[one] - found.suggestion))
    falls = {
        one: found.smoothed[one - 1] - found.smoothed[one + 1]
        for one in range(10, len(found.rates) - 5)
    }
    assert falls[at] == max(falls.values()) > 0


def test_the_first_steps_are_those_of_a_training(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Net, batches, transforms, precision and steps are those of `fit`, so the losses are too."""
    params = {**small, "flip_images": True, "mixup_alpha": 0.3, "label_smoothing": 0.1}
    params |= {"learning_rate_schedule": [], "precision": "bfloat16", "num_epochs": 1}
    params |= {"learning_rate": 1e-6}
    diary = Diary()
    fit(params, digits, tmp_path, observers=[diary])
    found = find_learning_rate(params, digits, lowest=1e-6, highest=10.0, steps=200)
    expected = [page.loss for page in diary.of(BatchReport)]
    assert found.losses[:5] == pytest.approx(expected[:5], abs=1e-4)


def test_a_net_that_cannot_learn_is_an_error(digits: Path, small: dict[str, Any]) -> None:
    """From a curve that never falls nothing is suggested; the error names rates and losses."""
    deaf = {"class": "torch.nn.Dropout", "kwargs": {"p": 1.0}}
    with pytest.raises(TrainerError, match="the loss did not fall at any learning rate"):
        find_learning_rate({**small, "net_arch": [deaf]}, digits)


def test_a_loss_that_diverges_at_once_is_an_error(digits: Path, small: dict[str, Any]) -> None:
    """With too few points to see a slope, the error names their number and the remedy."""
    with pytest.raises(
        TrainerError, match=r"diverged after \d+ steps at a learning rate of .*lower"
    ):
        find_learning_rate(small, digits, lowest=1e5, highest=1e9)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "0 < lowest < highest"),
        ({"lowest": 0.0}, "0 < lowest < highest"),
        ({"steps": 5}, "steps: 5 are too few"),
    ],
)
def test_a_wrong_range_is_refused(
    digits: Path, small: dict[str, Any], chosen: dict[str, Any], text: str
) -> None:
    """An impossible range or too few steps are found before anything is read."""
    with pytest.raises(ParamsError, match=text):
        find_learning_rate(small, digits / "nowhere", **chosen)
    with pytest.raises(DataError):
        find_learning_rate(small, digits / "nowhere")


def test_the_chart_has_the_curve_and_the_suggestion(digits: Path, small: dict[str, Any]) -> None:
    """The page has both lines and, as a dot, the suggestion."""
    found = find_learning_rate(small, digits)
    page = curve_page(found)
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<polyline") == 2
    assert page.count("<circle") == 1
    assert f"suggested: {found.suggestion:g}" in page
