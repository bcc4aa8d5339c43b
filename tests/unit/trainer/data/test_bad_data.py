"""Bad data: everything that is wrong is in one report, which says what to set."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.unit.trainer.data.test_data import findings, write
from trainer import Params
from trainer.data.splits import open_split


def test_everything_wrong_with_rows_labels_and_files_is_in_one_report(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """Bad rows hide neither a label outside the classes nor a missing, broken or odd file."""
    write(tmp_path / "test", ["0", "1"])
    folder = write(tmp_path / "train", [str(index % 10) for index in range(10)])
    (folder / "text.png").write_text("not an image")
    cv2.imwrite(str(folder / "large.png"), np.zeros((30, 30), np.uint8))
    Image.new("F", (28, 28)).save(folder / "float.tif")
    with (folder / "info.csv").open("a") as file:
        file.write("000001.png,\n../../evil.png,1\nnone.png,1\ntext.png,1\nlarge.png,1\n")
        file.write("float.tif,1\n000002.png,99\n")
    with (tmp_path / "test/info.csv").open("a") as file:
        file.write(",1\ngone.png,0\n")
    report = "\n".join(findings(small, tmp_path))
    expected = [
        "train/info.csv line 12: file or type is empty",
        "train/info.csv line 13: '../../evil.png' is outside",
        "train/none.png is listed in info.csv but is not there",
        "text.png is not an image",
        "large.png has 30x30 pixels, not 28x28; set resize_images=true",
        "float.tif has float32 values; images must have 8 or 16 bits per channel",
        "has the unknown label '99'; classes: ",
        "test/info.csv line 4: file or type is empty",
        "test/gone.png is listed in info.csv but is not there",
    ]
    assert [text for text in expected if text not in report] == []


def test_when_all_images_have_another_size_the_params_to_set_are_named(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """A folder of images of another size gets one line that says what to set."""
    for kind in ("train", "test"):
        write(tmp_path / kind, [str(index) for index in range(10)], (30, 32))
    assert findings(small, tmp_path)[0].endswith("set image_height=30 and image_width=32")


def test_colours_that_become_grey_are_warned_of(
    tmp_path: Path, small: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The warning counts the images with colours and names the param that keeps them."""
    folder = write(tmp_path / "train", ["0", "1"], (28, 28, 3))
    cv2.imwrite(str(folder / "000001.png"), np.full((28, 28, 3), 7, np.uint8))
    open_split(Params.validate_all(small), "train", tmp_path)
    assert "train/info.csv: 1 of 2 images have colours" in caplog.text
    assert "set is_image_color=true" in caplog.text


@pytest.mark.parametrize(
    ("train", "test", "expected"),
    [
        (["0", "1", "3"], ["0", "2", "7"], ["class 2, of which", "class 7, of which"]),
        (["bag", "boot"], ["bag", "shirt"], ["has the unknown label 'shirt'; classes: "]),
    ],
)
def test_a_class_that_is_tested_and_never_trained_is_named(
    tmp_path: Path, small: dict[str, Any], train: list[str], test: list[str], expected: list[str]
) -> None:
    """Numbers below n_classes are classes without occurring, and still need images to learn."""
    write(tmp_path / "train", train)
    write(tmp_path / "test", test)
    n_classes = 10 if train[0].isdecimal() else 2
    found = findings({**small, "n_classes": n_classes}, tmp_path)
    assert len(found) == len(expected)
    assert all(text in finding for text, finding in zip(expected, found, strict=True))


def test_spaces_in_the_header_do_not_matter(tmp_path: Path, small: dict[str, Any]) -> None:
    """`files, type` is the same header as `files,type`."""
    table = write(tmp_path / "train", ["0", "1"]) / "info.csv"
    table.write_text(table.read_text().replace("files,type", "files, type"))
    assert len(open_split(Params.validate_all(small), "train", tmp_path)) == 2
