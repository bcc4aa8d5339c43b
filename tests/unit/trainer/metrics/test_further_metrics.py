"""Metrics that the params name besides the built-in ones."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.diary import Diary
from trainer import EpochReport, Params, ParamsError, fit, load_checkpoint


def test_torchmetrics_can_be_added_by_name(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Cohen's kappa of ten balanced classes follows from the accuracy; it can decide on best.pt."""
    diary = Diary()
    params = {
        **small,
        "metrics": [{"class": "torchmetrics.CohenKappa"}],
        "best_metric": "CohenKappa",
    }
    result = fit(params, digits, tmp_path, observers=[diary])
    figures = diary.of(EpochReport)[-1].test_metrics
    assert figures["CohenKappa"] == pytest.approx((figures["accuracy"] - 0.1) / 0.9, abs=1e-5)
    assert result.best is not None
    assert "CohenKappa" in load_checkpoint(result.best).metrics
    with pytest.raises(ParamsError, match=r"metrics\[0\]\.class"):
        Params.validate_all({"metrics": [{"class": "torchmetrics.text.BERTScore"}]})
