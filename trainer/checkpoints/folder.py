"""The checkpoints of a run: written in the background, one at a time, and found again."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint, write_checkpoint
from trainer.errors import CheckpointError
from trainer.observers import CheckpointSaved

__all__ = ["CheckpointFolder"]

logger = logging.getLogger(__name__)

BEST = "best.pt"


class CheckpointFolder:
    """The folder `logdir/checkpoints`.

    `epoch-00005.pt` is written after five epochs, `epoch-00005-batch-00120.pt` when a run is
    stopped in the middle of the sixth. `best.pt` is a second name of the best checkpoint.

    A checkpoint that cannot be written (a full disk, say) is reported as an error in the log, and
    the training continues; earlier checkpoints stay as they are. Only the last one of a run raises.

    Args:
        logdir: The run's folder.
        keep_last: How many numbered checkpoints to keep; all when None.
    """

    def __init__(self, logdir: Path, keep_last: int | None = None) -> None:
        self.path = logdir / "checkpoints"
        self._keep_last = keep_last
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: list[Future[CheckpointSaved]] = []

    @property
    def best(self) -> Path | None:
        """The best checkpoint, if there is one."""
        path = self.path / BEST
        return path if path.exists() else None

    @property
    def last(self) -> Path | None:
        """The newest checkpoint by epoch and batch, without reading any."""
        numbered = self._numbered()
        return numbered[-1] if numbered else self.best

    def last_written(self) -> Path | None:
        """Wait for pending writes, and return the newest checkpoint."""
        wait_for(self._pending)
        return self.last

    def save(self, content: dict[str, Any], *, numbered: bool, is_best: bool) -> None:
        """Begin to write a checkpoint; the content is copied at once and may change afterwards.

        Args:
            content: Everything that the file holds; tensors may be on any device.
            numbered: Whether it gets its own file, named by epoch and batch.
            is_best: Whether it becomes `best.pt`.
        """
        copied = _copied(content)
        self._pending.append(self._writer.submit(self._write, copied, numbered, is_best))

    def pop_written(self, *, wait: bool = False) -> Iterator[CheckpointSaved]:
        """Yield the checkpoints that were written since the last call.

        Args:
            wait: Wait for pending writes, and raise if the last one failed.

        Raises:
            CheckpointError: With `wait`, the last checkpoint could not be written.
        """
        failed: BaseException | None = None
        while self._pending and (wait or self._pending[0].done()):
            future = self._pending.pop(0)
            failed = future.exception()
            if failed is None:
                yield future.result()
            else:
                logger.error(
                    "checkpoint not written: %s; the last good one stays in %s", failed, self.path
                )
        if wait and failed is not None:
            raise CheckpointError(f"the last checkpoint was not written: {failed}") from failed

    def newest_good(self) -> Checkpoint | None:
        """Return the newest checkpoint that is not damaged; each damaged one is a warning."""
        for path in [*reversed(self._numbered()), *([self.best] if self.best else [])]:
            try:
                return load_checkpoint(path)
            except CheckpointError as error:
                logger.warning("checkpoint ignored: %s", error)
        return None

    def _numbered(self) -> list[Path]:
        # By stem: an epoch's end sorts before the batches that follow it.
        return sorted(self.path.glob("epoch-*.pt"), key=lambda path: path.stem)

    def set_aside(self) -> None:
        """Move an earlier run's checkpoints away, so that a new run cannot resume from them."""
        if not self.path.exists() or not any(self.path.glob("*.pt")):
            return
        number = 1
        while (aside := self.path.with_name(f"checkpoints.{number}")).exists():
            number += 1
        self.path.rename(aside)
        logger.warning("the checkpoints of an earlier run were moved to %s", aside)

    def close(self) -> None:
        """Finish pending writes."""
        self._writer.shutdown(wait=True)

    def _write(self, content: dict[str, Any], numbered: bool, is_best: bool) -> CheckpointSaved:  # noqa: FBT001
        epoch, batch = content["position"]["epoch"], content["position"]["batch"]
        within = f"-batch-{batch:05d}" if batch else ""
        path = self.path / (f"epoch-{epoch:05d}{within}.pt" if numbered else BEST)
        write_checkpoint(path, content)
        if numbered and is_best:
            _link(path, self.path / BEST)
        if numbered:
            self._drop_before(path)
        return CheckpointSaved(path, epoch, is_best, dict(content["metrics"]))

    def _drop_before(self, path: Path) -> None:
        """Remove older checkpoints: those from the middle of an epoch, and all but the last k."""
        if self._keep_last is not None:
            for other in self._numbered()[: -self._keep_last]:
                other.unlink(missing_ok=True)
        for other in self.path.glob("epoch-*-batch-*.pt"):
            if other.stem < path.stem:
                other.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name in one step; copy it where the disk has no hard links."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".link-") as folder:
        temporary = Path(folder) / target.name
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())
        temporary.replace(target)


def _copied(value: Any) -> Any:
    """Return a deep copy with tensors on the CPU and everything else as plain values."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(one) for one in value)
    return value
