"""Contenders of the training benchmark as processes that wait for their turn to train an epoch."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.training.job import DONE, Job

ROOT = Path(__file__).parents[1]
ENDS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Contender:
    """Something that trains.

    Attributes:
        name: In the table.
        module: Under `benchmarks.peers.training`.
        params: The trainer's; the others follow what concerns them.
        own_steps: Train with a user's own steps.
    """

    name: str
    module: str
    params: dict[str, Any]
    own_steps: bool = False


class Turns:
    """A contender's process, which trains and evaluates an epoch when it is asked to.

    Each contender has its own process, as its users run it; in one process they would share threads
    and memory.
    """

    def __init__(self, contender: Contender, datadir: Path, folder: Path) -> None:
        self.name = contender.name
        folder.mkdir(parents=True)
        self._said = (folder / "stderr").open("w+", encoding="utf-8")
        job = Job(str(datadir), str(folder), contender.params, contender.own_steps)
        module = f"benchmarks.peers.training.{contender.module}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, job.as_argument()],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        try:
            if kind is None:
                self._process.communicate(timeout=ENDS_WITHIN_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._said.close()

    def epoch(self) -> float:
        """Train an epoch; return the seconds that it takes."""
        assert self._process.stdin is not None
        began = time.perf_counter()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        """Wait until its turn is done.

        Raises:
            RuntimeError: It has ended instead.
        """
        assert self._process.stdout is not None
        if DONE not in self._process.stdout:
            self._said.seek(0)
            raise RuntimeError(f"{self.name} has ended: {self._said.read()[-2000:]}")
