"""What TensorBoard shows of a run, read back from its event files."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from trainer import fit


@pytest.fixture(scope="module")
def logdir(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    params = {
        "net_arch": [], "num_epochs": 3, "batch_size": 50, "eval_batch_size": 30, "eval_freq": 1,
        "device": "cpu", "histograms": True, "learning_rate": 0.25,
    }  # fmt: skip
    fit(params, digits, folder)
    return folder


@pytest.fixture(scope="module")
def events(logdir: Path) -> EventAccumulator:
    everything = EventAccumulator(str(logdir), size_guidance={"images": 0, "histograms": 0})
    everything.Reload()
    return everything


def picture(event: Any) -> Any:
    data = np.frombuffer(event.encoded_image_string, dtype=np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_figures_come_with_every_epoch(events: EventAccumulator) -> None:
    """Loss, metrics, learning rate and throughput; the loss also at every tenth step."""
    expected = {
        "loss/train", "loss/test", "loss/step", "accuracy/train", "accuracy/test", "f1/test",
        "auroc/test", "calibration_error/test", "learning_rate", "images_per_s",
    }  # fmt: skip
    assert expected <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss/test")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("loss/step")] == [10]


def test_images_are_shown_as_the_net_sees_them(events: EventAccumulator) -> None:
    """A grid of 32 pictures of the first batch, with something on it."""
    grid = picture(events.Images("images/train")[0])
    assert grid.size > 32 * 28 * 28
    assert grid.max() > 200


def test_confusion_and_mistakes_are_pictures_of_the_last_evaluation(
    events: EventAccumulator,
) -> None:
    """Drawn after the first evaluation and at the end, not at each: drawing takes time."""
    for tag in ("confusion", "mistakes"):
        assert [event.step for event in events.Images(tag)] == [1, 3]
        assert picture(events.Images(tag)[-1]).std() > 10


def test_every_class_has_a_pr_curve(events: EventAccumulator) -> None:
    """Ten classes, ten curves; each has the class's ten positives at the lowest threshold."""
    tags = [f"precision_recall/{index}" for index in range(10)]
    assert set(tags) <= set(events.Tags()["tensors"])
    for tag in tags:
        curve = events.Tensors(tag)[-1].tensor_proto
        values = np.asarray(curve.float_val).reshape([one.size for one in curve.tensor_shape.dim])
        true_positives, _, _, false_negatives = values[:4, 0]
        assert true_positives + false_negatives == 10


def test_the_graph_is_shown(events: EventAccumulator) -> None:
    """The fully connected layer is a node of the graph."""
    assert events.Tags()["graph"]
    assert any("head" in node.name for node in events.Graph().node)


def test_weights_and_gradients_are_histograms_on_request(
    events: EventAccumulator, digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """One an epoch and parameter with `histograms`; none without."""
    tags = events.Tags()["histograms"]
    assert {"weights/head.weight", "gradients/head.bias"} <= set(tags)
    assert [event.step for event in events.Histograms("weights/head.weight")] == [1, 2, 3]
    fit({**small, "num_epochs": 1}, digits, tmp_path)
    without = EventAccumulator(str(tmp_path))
    without.Reload()
    assert without.Tags()["histograms"] == []


def test_the_run_is_a_row_in_the_table_of_hyperparameters(
    events: EventAccumulator, logdir: Path
) -> None:
    """The params are there with the figures that they led to, in the run's own folder."""
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    row = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["learning_rate"].number_value == 0.25
    assert row["optim_class"].string_value == "torch.optim.SGD"
    assert len(list(logdir.rglob("events.*"))) == 1
