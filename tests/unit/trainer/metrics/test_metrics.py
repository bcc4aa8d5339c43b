"""The built-in metrics are torchmetrics' own figures."""

import pytest
import torch
import torchmetrics.functional as tm

from trainer.metrics.figures import auroc, calibration_error, per_class
from trainer.metrics.meters import ScoreMeter


@pytest.mark.parametrize("seed", range(4))
def test_the_metrics_are_those_of_torchmetrics(seed: int) -> None:
    """Accuracy, macro precision, recall, F1, AUROC and calibration error, to six digits."""
    draws = torch.Generator().manual_seed(seed)
    n_classes = 3 + seed
    y = torch.randint(0, n_classes, (200,), generator=draws)
    logits = torch.randn((200, n_classes), generator=draws) + 2 * torch.nn.functional.one_hot(
        y, n_classes
    )
    if seed == 3:
        y = y.clamp(max=n_classes - 2)  # a class without images
        logits[:, -1] = -100
    meter = ScoreMeter(n_classes)
    for start in range(0, 200, 64):
        meter.update(logits[start : start + 64], y[start : start + 64])
    settings = {"task": "multiclass", "num_classes": n_classes}
    probabilities = logits.softmax(1)
    expected = {
        "accuracy": tm.accuracy(probabilities, y, **settings, average="micro"),
        "precision": tm.precision(probabilities, y, **settings, average="macro"),
        "recall": tm.recall(probabilities, y, **settings, average="macro"),
        "f1": tm.f1_score(probabilities, y, **settings, average="macro"),
        "calibration_error": tm.calibration_error(probabilities, y, **settings, n_bins=15),
    }
    if seed != 3:  # torchmetrics warns of the class without images and counts it as 0
        expected["auroc"] = tm.auroc(probabilities, y, **settings)
    actual = meter.compute()
    assert {name: float(value) for name, value in expected.items()} == pytest.approx(
        {name: actual[name] for name in expected}, abs=1e-6
    )


def test_ties_count_half_in_the_area_under_roc() -> None:
    """Scores that are all alike say nothing: the area is one half."""
    assert auroc(torch.full((10, 2), 0.5), torch.arange(10) % 2) == 0.5


def test_a_calibrated_classifier_has_no_error() -> None:
    """Right in three of four cases at a confidence of 0.75."""
    probabilities = torch.tensor([[0.75, 0.25]]).repeat(4, 1)
    assert calibration_error(probabilities, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)


def test_the_table_of_the_classes_counts_per_class() -> None:
    """Two of three zeros are found, and one one is taken for a zero."""
    rows = per_class(torch.tensor([[2, 1], [1, 3]]))
    assert rows[0] == {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "images": 3.0}
