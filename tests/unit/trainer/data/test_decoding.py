"""The building of the memory map: told about, stopped at once, and never left half-done."""

import os
import signal
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tests.unit.trainer.data.test_data import findings, write
from tests.unit.trainer.diary import Diary
from trainer import Params, TooManyPixelsError, fit, train
from trainer.data import decoding as decoding_module
from trainer.data import image_map as images_module
from trainer.data.decoding import read_image
from trainer.data.splits import open_split, open_splits


class Slowed:
    """Reads each image in a hundredth of a second, and sends this process a signal at the 50th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int | None = None) -> None:
        self.read = 0
        self.signalled_at = 0.0
        self._number = number
        self._real = decoding_module.image_size
        monkeypatch.setattr(decoding_module, "image_size", self._slowly)

    def _slowly(self, *given: Any) -> Any:
        self.read += 1
        if self.read == 50 and self._number is not None:
            self.signalled_at = time.monotonic()
            os.kill(os.getpid(), self._number)
        time.sleep(0.01)
        return self._real(*given)


def left_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*/.darkroom/*")]


def test_a_signal_ends_the_decoding_at_once(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 20 s of images to go SIGTERM ends `fit` within a second, and no file is left behind."""
    write(tmp_path / "train", ["0", "1"] * 2000)
    slowed = Slowed(monkeypatch, signal.SIGTERM)
    result = fit({**small, "validation_split": 0.2}, tmp_path, tmp_path / "logs")
    assert time.monotonic() - slowed.signalled_at < 1
    assert (result.status, result.epoch, result.last, result.best) == ("stopped", 0, None, None)
    assert left_in(tmp_path) == []
    assert not (tmp_path / "logs").exists()


def test_ctrl_c_ends_the_decoding_outside_of_a_run_too(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluating, say, has no signals caught: KeyboardInterrupt comes through at once."""
    write(tmp_path / "train", ["0", "1"] * 1000)
    slowed = Slowed(monkeypatch, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        open_split(Params.validate_all(small), "train", tmp_path)
    assert time.monotonic() - slowed.signalled_at < 1
    assert left_in(tmp_path) == []


def test_ones_own_steps_are_stopped_before_the_start_too(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """`train` returns False, and who listens is told that it is over."""

    class Closing(Diary):
        def close(self) -> None:
            self.pages.append("closed")

    (tmp_path / "data").mkdir()
    for kind in ("train", "test"):
        write(tmp_path / "data" / kind, ["0", "1"])
    diary = Closing()
    net: Any = None
    given = (small, net, net, net, tmp_path / "data", tmp_path / "logs")
    assert not train(*given, observers=[diary], should_stop=lambda: True)
    assert diary.pages == ["closed"]
    assert left_in(tmp_path / "data") == []


def test_a_resumed_run_that_is_stopped_before_its_start_keeps_what_it_had(
    digits: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    """Epoch, metrics, best and last are those of the checkpoints that are there."""
    logs = tmp_path / "logs"
    before = fit({**small, "num_epochs": 1}, digits, logs)
    write(tmp_path / "train", ["0", "1"])
    again = {**small, "validation_split": 0.5}
    result = fit(again, tmp_path, logs, resume=True, should_stop=lambda: True)
    assert (result.status, result.epoch, result.num_epochs) == ("stopped", 1, 2)
    assert (result.last, result.best, result.metrics) == (before.last, before.best, before.metrics)


def test_observers_hear_of_the_decoding_when_there_is_any(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """From none to all of each split, and nothing when the maps are there already."""
    for kind, count in (("train", 300), ("test", 20)):
        write(tmp_path / kind, ["0", "1"] * (count // 2))
    told: list[tuple[int, int]] = []
    for _ in range(2):
        open_splits(Params.validate_all(small), tmp_path, lambda *counts: told.append(counts))
    assert [one for one in told if one[0] in {0, one[1]}] == [
        (0, 300),
        (300, 300),
        (0, 20),
        (20, 20),
    ]


def test_a_bar_is_shown_only_when_decoding_takes_long(
    tmp_path: Path,
    small: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing in the first second; then how many images of how many, on standard error."""
    from trainer import ProgressBar  # noqa: PLC0415

    write(tmp_path / "train", ["0", "1"] * 125)
    params = Params.validate_all(small)
    bar = ProgressBar()
    open_split(params, "train", tmp_path, on_progress=bar.on_decoding)
    assert capsys.readouterr().err == ""
    for map_file in (tmp_path / "train/.darkroom").iterdir():
        map_file.unlink()
    Slowed(monkeypatch)
    open_split(params, "train", tmp_path, on_progress=bar.on_decoding)
    shown = capsys.readouterr().err
    assert "decoding: 100%" in shown
    assert "250/250" in shown
    bar.close()


def test_a_full_disk_is_named_before_anything_is_decoded(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither beside the images nor in the temporary folder: the error has size and places."""
    write(tmp_path / "train", ["0"])
    write(tmp_path / "test", ["0"])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    text = "\n".join(findings(small, tmp_path))
    assert "train/info.csv, 784 bytes, cannot be written (" in text
    assert text.count("No space left on device") == 4
    assert left_in(tmp_path) == []


def test_what_a_killed_process_left_is_removed_when_it_is_old(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """A half-built map of an hour ago goes; a young one may be another process's work."""
    folder = write(tmp_path / "train", ["0"]) / ".darkroom"
    folder.mkdir()
    for name, age_s in (("building-old", 4000), ("building-young", 10)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age_s,) * 2)
    open_split(Params.validate_all(small), "train", tmp_path)
    assert [name for name in left_in(tmp_path) if name.startswith("b")] == ["building-young"]


def test_a_large_map_is_read_and_gives_the_same_images(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order and more than once, without touching the map in memory."""
    write(tmp_path / "train", ["0", "1"] * 20)
    rows = torch.tensor([39, 0, 7, 7, 20])
    whole = open_split(Params.validate_all(small), "train", tmp_path)
    monkeypatch.setattr(images_module, "SMALL_BYTES", 0)
    large = open_split(Params.validate_all(small), "train", tmp_path)
    large.images.array = large.images.array[:0]
    assert torch.equal(whole.pixels(rows), large.pixels(rows))


def test_a_pipe_among_the_images_is_an_error_and_not_waited_for(
    tmp_path: Path, small: dict[str, Any]
) -> None:
    """A name in info.csv that is a pipe or a folder is reported as not a file."""
    write(tmp_path / "test", ["0"])
    folder = write(tmp_path / "train", ["0", "1", "2"])
    for name in ("000000.png", "000001.png"):
        (folder / name).unlink()
    os.mkfifo(folder / "000000.png")
    (folder / "000001.png").mkdir()
    text = "\n".join(findings(small, tmp_path))
    for name in ("000000.png", "000001.png"):
        assert f"{name} is listed in info.csv but is not a file" in text


def png_of_zeros(width: int, height: int) -> bytes:
    """Return a small file that declares, and really holds, a huge black picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(height * (width // 8 + 1)))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_small_file_that_declares_a_huge_image_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The header is enough to refuse it, with its size and what is decoded at most."""
    path = tmp_path / f"bomb{suffix}"
    if suffix == ".png":
        path.write_bytes(png_of_zeros(2**13 + 8, 2**13))
    else:
        data = bytearray(cv2.imencode(suffix, np.zeros((28, 28), np.uint8))[1])
        data[18:26] = struct.pack("<ii", 2**13 + 8, 2**13)
        path.write_bytes(data)

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", decode)
    with pytest.raises(
        TooManyPixelsError, match=rf"bomb{suffix} declares 8200x8192 pixels; at most"
    ):
        read_image(path)
