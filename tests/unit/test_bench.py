"""The form that every benchmark's result has."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.bench import Benchmark
from tests.project import ROOT


@pytest.fixture
def bench() -> Benchmark:
    """A benchmark with two contenders and two ratios, one of them missed."""
    bench = Benchmark("example")
    bench.row("library", "images/s", [900, 1100, 1000])
    bench.row("bare loop", "images/s", [1250])
    bench.ratio("library over bare loop", 0.8, 0.9)
    bench.ratio("seconds to the first step", 3.5, 4.0, at_most=True)
    return bench


def test_result_for_programs(bench: Benchmark) -> None:
    """The JSON has the rows with median and range, and the ratios with their targets."""
    assert json.loads(json.dumps(bench.as_json())) == {
        "benchmark": "example",
        "rows": [
            {
                "contender": "library",
                "unit": "images/s",
                "median": 1000.0,
                "min": 900.0,
                "max": 1100.0,
            },
            {
                "contender": "bare loop",
                "unit": "images/s",
                "median": 1250.0,
                "min": 1250.0,
                "max": 1250.0,
            },
        ],
        "ratios": {
            "library over bare loop": {"value": 0.8, "target": 0.9, "met": False},
            "seconds to the first step": {"value": 3.5, "target": 4.0, "met": True},
        },
    }


def test_result_for_people(bench: Benchmark) -> None:
    """The table has medians and ranges, and says which target was missed."""
    lines = bench.table().splitlines()

    assert lines[3].split() == ["library", "1,000", "900", "..", "1,100", "images/s"]
    assert lines[-2].split()[-4:] == ["0.8", ">=", "0.9", "MISSED"]
    assert lines[-1].split()[-4:] == ["3.5", "<=", "4", "met"]


def test_contender_without_samples_is_an_error() -> None:
    """A contender that was not measured cannot hide in the table."""
    with pytest.raises(ValueError, match="example: library has no samples"):
        Benchmark("example").row("library", "s", [])


@pytest.mark.parametrize("name", [[], ["no-such-benchmark"]])
def test_benchmarks_are_listed(name: list[str]) -> None:
    """Without a name, or with an unknown one, the answer is the list of what there is."""
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", *name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    files = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    listed = {line.split()[0] for line in result.stderr.partition("There are:\n")[2].splitlines()}

    assert result.returncode == 2
    assert listed - {"(none"} <= files
    assert not {"bench", "__init__", "__main__"} & listed
