"""The batch-size finder: it stays within its budget, and suggests the smallest fast size."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainer import ParamsError, TrainerError, find_batch_size
from trainer.machine.memory import HostMemory, cgroups_left
from trainer.tuning.batch_size import Search, SizeMeasurement

MB = 10**6


@pytest.fixture(autouse=True)
def is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size is measured over a few steps: how fast it is does not matter here."""
    monkeypatch.setattr("trainer.tuning.batch_size.LEAST_S", 0.0)


def test_a_small_budget_is_never_exceeded(digits: Path, small: dict[str, Any]) -> None:
    """Sizes double up to the last that fits; the next would exceed the budget."""
    wide = {"class": "torch.nn.Conv2d", "kwargs": {"in_channels": 1, "out_channels": 64}}
    wide["kwargs"] |= {"kernel_size": 3, "padding": 1}
    params = {**small, "net_arch": [wide, {"class": "torch.nn.ELU"}], "precision": "float32"}
    find_batch_size(params, digits, first=4, largest=4)  # loads what stays
    memory = HostMemory()
    memory.restart()
    budget = memory.used() + 25 * MB
    found = find_batch_size(params, digits, memory_gb=budget / 1e9, first=4)
    sizes = [one.batch_size for one in found.measured]
    assert sizes == [4 * 2**number for number in range(len(sizes))]
    assert max(one.peak_bytes for one in found.measured) <= budget
    assert found.ended == "memory"
    assert found.next_bytes > budget == found.budget_bytes
    assert found.largest == sizes[-1] < 128


def test_a_budget_in_gb_holds_to_the_byte(digits: Path, small: dict[str, Any]) -> None:
    """The budget is rounded; cut off, this one would be a byte less."""
    found = find_batch_size(small, digits, memory_gb=8.000000011, first=4, largest=4)
    assert found.budget_bytes == 8_000_000_011


def test_the_suggestion_is_the_smallest_of_the_fast_ones(
    digits: Path, small: dict[str, Any]
) -> None:
    """It is within 5 % of the fastest; the sizes end when there are too few images."""
    found = find_batch_size(small, digits)
    assert [one.batch_size for one in found.measured] == [16, 32, 64, 128]
    assert (found.ended, found.largest) == ("images", 128)
    fastest = max(one.images_per_s for one in found.measured)
    fast = [one.batch_size for one in found.measured if one.images_per_s >= 0.95 * fastest]
    assert found.suggestion == fast[0]
    assert find_batch_size(small, digits, first=10, largest=10).ended == "largest"


def test_a_size_that_would_not_fit_is_never_tried() -> None:
    """The memory of the next size is predicted from the last one's growth."""
    tried = []

    def measure(size: int) -> SizeMeasurement:
        tried.append(size)
        return SizeMeasurement(size, 1.0, 100 * MB, (100 + 3 * size) * MB)

    search = Search(measure, 400 * MB)
    assert not search.try_sizes([2, 4, 8, 16, 32, 64, 128, 256])
    assert tried == [2, 2, 4, 8, 16, 32, 64]
    assert search.predict(128) > 400 * MB
    assert search.refused_bytes == search.predict(128)


def test_a_size_that_takes_more_than_predicted_is_reported_as_measured() -> None:
    """A size that exceeds the budget against the prediction ends the search, with its peak."""

    def measure(size: int) -> SizeMeasurement:
        return SizeMeasurement(size, 1.0, 100 * MB, (450 if size == 8 else 110) * MB)

    search = Search(measure, 400 * MB)
    assert not search.try_sizes([4, 8, 16])
    assert [one.batch_size for one in search.measured] == [4]
    assert search.predict(8) < 400 * MB
    assert search.refused_bytes == 450 * MB


def test_a_gpu_that_is_full_ends_the_search() -> None:
    """A size for which the GPU has no memory is one that does not fit."""

    def measure(size: int) -> SizeMeasurement:
        if size > 8:
            raise torch.OutOfMemoryError
        return SizeMeasurement(size, 1.0, 0, 0)

    search = Search(measure, 400 * MB)
    assert not search.try_sizes([4, 8, 16, 32])
    assert [one.batch_size for one in search.measured] == [4, 8]


def test_a_budget_that_is_too_small_is_named(digits: Path, small: dict[str, Any]) -> None:
    """The error names the size, the budget and the memory in use."""
    with pytest.raises(
        TrainerError, match=r"size of 16 does not fit into 0.10 GB; the process uses"
    ):
        find_batch_size(small, digits, memory_gb=0.1)
    with pytest.raises(TrainerError, match=r"200 training images are too few .* 256"):
        find_batch_size(small, digits, first=256)


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"memory_gb": 0.0}, "memory_gb: 0 must be above 0"),
        ({"first": 1}, "must be 2 <= first"),
        ({"first": 64, "largest": 32}, "first 64, largest 32"),
    ],
)
def test_a_wrong_search_is_refused(
    digits: Path, small: dict[str, Any], asked: dict[str, Any], text: str
) -> None:
    """Impossible sizes and budgets are found before anything is read."""
    with pytest.raises(ParamsError, match=text):
        find_batch_size(small, digits / "nowhere", **asked)


def test_each_part_of_a_batch_has_two_images(digits: Path, small: dict[str, Any]) -> None:
    """BatchNorm needs two, so with gradient accumulation the smallest size is two per part."""
    params = {**small, "gradient_accumulation": 8}
    assert find_batch_size(params, digits, largest=32).largest == 32
    with pytest.raises(ParamsError, match="gradient_accumulation = 16"):
        find_batch_size(params, digits, first=8)


def test_the_gauge_measures_a_peak_and_forgets_it() -> None:
    """Memory that was used for a moment counts until the restart, which frees it."""
    memory = HostMemory()
    memory.restart()
    before = memory.used()
    # large: Linux counts resident pages per processor, which is some megabytes off on many
    with mmap.mmap(-1, 200 * MB) as taken:  # not from a heap that may have kept as much
        np.frombuffer(taken, np.uint8)[::1024] = 1
        assert memory.peak() - before > 180 * MB
    memory.restart()
    assert memory.peak() - before < 20 * MB
    assert memory.available() > 0


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/box", "box", ("memory.max", "memory.current", "inactive_file")),
        ("0::/elsewhere", ".", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/box",
            "memory/box",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_the_limit_of_a_container_counts(
    tmp_path: Path, line: str, folder: str, names: tuple[str, str, str]
) -> None:
    """For both versions of cgroups: the limit minus what is used, without cached files."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(f"9:cpu:/\n{line}\n")
    group = tmp_path / "mount" / folder
    group.mkdir(parents=True)
    (group / names[0]).write_text("1000\n")
    (group / names[1]).write_text("700\n")
    (group / "memory.stat").write_text(f"anon 400\n{names[2]} 300\n")
    assert list(cgroups_left(tmp_path, tmp_path / "mount")) == [600]
    (group / names[0]).write_text("max\n")
    assert list(cgroups_left(tmp_path, tmp_path / "mount")) == []
