"""The report at the end of a run, and the figures that it is made from."""

import json
import logging
import re
import resource
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.trainer.diary import Diary
from trainer import EpochReport, Observer, RunStarted, fit
from trainer.metrics.figures import confident_mistakes
from trainer.reporting.charts import line_chart


def test_the_report_holds_the_last_evaluation(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Curves of every epoch, the matrix of all test images, mistakes by file, params, versions."""
    diary = Diary()
    result = fit(small, digits, tmp_path, observers=[diary])
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"{result.metrics['accuracy']:.4f}" in page
    matrix = page.split('id="confusion"')[1].split("</table>")[0]
    counts = [int(number) for number in re.findall(r">(\d+)</td>", matrix)]
    assert sum(counts) == 100
    tested = diary.of(EpochReport)[-1].test_outputs
    first = confident_mistakes(tested.probabilities, tested.labels, 1)[0]
    name = f"{(tested.probabilities[first].max()):.1%}"
    assert name in page.split("<figcaption>")[1]
    assert re.search(r"<td>torch</td><td>", page)
    assert "learning_rate_schedule" in page


def test_probabilities_belong_to_their_images(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """What an epoch's report tells of an image is what the checkpoint makes of that image."""
    from trainer import load_checkpoint  # noqa: PLC0415
    from trainer.data.splits import open_split  # noqa: PLC0415

    diary = Diary()
    result = fit(
        {**small, "eval_batch_size": 7, "precision": "float32"}, digits, tmp_path, observers=[diary]
    )
    tested = diary.of(EpochReport)[-1].test_outputs
    checkpoint = load_checkpoint(str(result.last))
    split = open_split(checkpoint.params, "test", digits)
    pixels = split.pixels(tested.indices)
    assert torch.equal(split.labels[tested.indices], tested.labels)
    with torch.no_grad():
        own = checkpoint.classifier()(checkpoint.transform()(pixels))
    assert torch.allclose(own, tested.probabilities, atol=1e-5)


def test_a_resumed_run_reports_all_its_epochs(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """The history goes on where it was, and a last line that a kill has torn does not matter."""
    diary = Diary()
    fit(small, digits, tmp_path, should_stop=lambda: len(diary.pages) > 10, observers=[diary])
    history = tmp_path / "history.jsonl"
    with history.open("a") as file:
        file.write('{"epoch": 2, "train_lo')
    fit({**small, "num_epochs": 3}, digits, tmp_path, resume=True)
    epochs = [json.loads(line)["epoch"] for line in history.read_text().splitlines()]
    assert epochs == [1, 2, 3]
    fit({**small, "num_epochs": 1}, digits, tmp_path)
    assert len(history.read_text().splitlines()) == 1


def test_names_are_escaped(tmp_path: Path, digits: Path, small: dict[str, Any]) -> None:
    """A class called <b> is text in the report."""
    for kind in ("train", "test"):
        (tmp_path / kind).mkdir()
        table = (digits / kind / "info.csv").read_text().splitlines()
        rows = [re.sub(r",0$", ",<b>", row) for row in table]
        (tmp_path / kind / "info.csv").write_text("\n".join(rows))
        for file in (digits / kind).glob("*.png"):
            (tmp_path / kind / file.name).symlink_to(file)
    fit({**small, "num_epochs": 1}, tmp_path, tmp_path / "logs")
    page = (tmp_path / "logs" / "report.html").read_text("utf-8")
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_a_chart_leaves_out_what_is_not_finite() -> None:
    """One point is a dot, several are a line, and a line of nothing else is no chart."""
    assert "<circle" in line_chart("loss", {"train": [(1, 0.5), (2, float("nan"))]})
    assert line_chart("loss", {"train": [(1, 0.5), (2, 0.4)]}).count("<polyline") == 1
    assert line_chart("loss", {"train": [(1, float("inf"))]}) == ""


def test_large_numbers_fit_beside_a_chart() -> None:
    """Thousands of images per second are written out, not cut off at the left."""
    chart = line_chart("images/s", {"": [(1, 1500.0), (2, 12345.0)]})
    assert "12,345" in chart
    assert "e+" not in chart


def test_mistakes_come_with_the_most_confident_first() -> None:
    """Right predictions are none, and no more are returned than asked for."""
    probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert confident_mistakes(probabilities, torch.tensor([0, 0, 0, 1]), 5).tolist() == [2, 1]
    assert confident_mistakes(probabilities, torch.tensor([0, 0, 0, 1]), 1).tolist() == [2]


class FullDisk(Observer):
    """Lets this process write no byte more to a file from the start until an epoch is done."""

    def __init__(self, until: int) -> None:
        self._until = until
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_start(self, started: RunStarted) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16, self._before[1]))

    def on_epoch(self, report: EpochReport) -> None:
        if report.epoch == self._until:
            self.close()

    def close(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


# TensorBoard's own thread ends with the error, which its next call raises
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_said_loudly_and_the_training_goes_on(
    digits: Path, small: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Checkpoints, report and TensorBoard's files fail for real; the last checkpoint is written."""
    caplog.set_level(logging.ERROR)
    params = {**small, "num_epochs": 4}
    result = fit(params, digits, tmp_path, observers=[FullDisk(until=3)])
    assert (result.status, result.epoch) == ("finished", 4)
    for what in ("checkpoint not written", "report: not written", "TensorBoard's files: not"):
        assert what in caplog.text
    written = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert (
        {"epoch-00004.pt", "best.pt"} <= written <= {"epoch-00003.pt", "epoch-00004.pt", "best.pt"}
    )
