"""Values that are valid, but too large for the machine or for its number formats."""

import gzip
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.unit.trainer.data.test_data import write
from tests.unit.trainer.diary import Diary
from trainer import DataError, EpochReport, Params, ParamsError, build_classifier, fit
from trainer.data.idx import read_idx


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_classes", 2**62),
        ("eval_batch_size", 2**70),
        ("batch_size", 2**70),
        ("gradient_accumulation", 2**70),
        ("learning_rate", 1e308),
    ],
)
def test_a_number_that_torch_cannot_count_to_is_refused(key: str, value: float) -> None:
    """The error names its key before anything is read, not in the middle of a run."""
    with pytest.raises(ParamsError, match=f"{key}: Input should be less than or equal to"):
        Params.validate_all({key: value})


def test_a_net_without_memory_for_its_weights_is_named() -> None:
    """The error says that the net is too large, and how much memory it needs."""
    layers = [
        {"class": "torch.nn.Flatten"},
        {"class": "torch.nn.Linear", "kwargs": {"in_features": 784, "out_features": 10**12}},
    ]
    with pytest.raises(ParamsError, match=r"not enough memory for the net; make it smaller"):
        build_classifier({"net_arch": layers})


def test_a_small_gzip_file_that_holds_far_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    """Reading stops behind what the header promises; 64 MB of zeros are 64 kB of gzip."""
    path = tmp_path / "bomb-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x03" + bytes(2**26)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb-idx1-ubyte\.gz has more values"):
        read_idx(path, 1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24


def test_an_epoch_whose_every_step_was_skipped_has_no_loss(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """With fewer bad steps than `most_bad_steps` in an epoch, its loss is NaN; the run goes on."""
    for kind in ("train", "test"):
        write(tmp_path / kind, ["0", "1"] * 8)
    diary = Diary()
    params = {
        **small, "n_classes": 2, "class_weights": [0.0, 0.0], "num_epochs": 1,
        "learning_rate_schedule": [],
    }  # fmt: skip
    result = fit(params, tmp_path, tmp_path / "logs", observers=[diary])
    assert result.status == "finished"
    (report,) = diary.of(EpochReport)
    assert math.isnan(report.train_loss)
    assert math.isfinite(report.test_loss)
