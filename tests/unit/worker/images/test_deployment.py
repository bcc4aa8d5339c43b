"""Which checkpoint is served, through restarts and on several workers."""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import trainer
from worker.errors import BadCommand, WorkerError
from worker.images.deployment import Deployment
from worker.images.model_id import ModelId
from worker.images.predictor import Predictor


@dataclass(frozen=True)
class StandIn:
    """A model that is only a name and a form: those of job c have another one."""

    id: ModelId

    @property
    def form(self) -> str:
        return "three classes" if self.id.job == "c" else "two classes"


def load(path: Path, job: str) -> Any:
    if not path.exists():
        raise trainer.CheckpointError(f"{path.name}: there is no such file")
    content = path.read_bytes()
    return StandIn(ModelId(job, int(content), hashlib.sha256(content).hexdigest()))


class Worker:
    """What a worker has of it, on a shared log directory."""

    def __init__(self, logdir: Path, load: Callable[[Path, str], Any] = load) -> None:
        self.released = 0
        self.predictor = Predictor(on_first_model=self.release)
        self.deployment = Deployment(logdir, self.predictor, load)

    def release(self) -> None:
        self.released += 1

    @property
    def epoch(self) -> int:
        return self.predictor.model.id.epoch


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    for job, epoch in (("a", 1), ("a", 2), ("b", 3), ("c", 4)):
        (tmp_path / job).mkdir(exist_ok=True)
        (tmp_path / job / f"{epoch}.pt").write_text(str(epoch))
    return tmp_path


async def test_the_first_model_releases_the_images_once(logdir: Path) -> None:
    """Images are held until there is a model, and not again afterwards."""
    worker = Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    await worker.deployment.reload("a/2.pt", job=None, order=(2, 0))
    assert (worker.released, worker.epoch) == (1, 2)


async def test_a_worker_that_starts_takes_the_deployed_model(logdir: Path) -> None:
    """What is deployed survives a restart."""
    await Worker(logdir).deployment.reload("b/3.pt", job=None, order=(1, 0))
    worker = Worker(logdir)
    deployed = await worker.deployment.catch_up()
    assert deployed is not None
    assert (deployed.job, deployed.checkpoint, worker.epoch) == ("b", "b/3.pt", 3)


async def test_a_worker_that_missed_a_command_catches_up(logdir: Path) -> None:
    """It looks at the record now and then, and does once what it says."""
    told, missed = Worker(logdir), Worker(logdir)
    for worker in (told, missed):
        await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    await told.deployment.reload("b/3.pt", job=None, order=(2, 1))
    followed = await missed.deployment.catch_up()
    assert followed is not None
    assert (followed.job, missed.epoch) == ("b", 3)
    assert await missed.deployment.catch_up() is None
    assert await told.deployment.catch_up() is None


async def test_a_record_that_cannot_be_served_is_tried_once(logdir: Path) -> None:
    """The next try comes with the next command."""
    await Worker(logdir).deployment.reload("b/3.pt", job=None, order=(1, 0))
    for path in (logdir / "b" / "3.pt", *(logdir / "deployed").iterdir()):
        path.unlink()
    worker = Worker(logdir)
    with pytest.raises(BadCommand, match="no such file"):
        await worker.deployment.catch_up()
    assert await worker.deployment.catch_up() is None
    assert worker.deployment.state == "failed"


async def test_what_is_deployed_stays_when_its_file_is_written_over(logdir: Path) -> None:
    """A job that goes on finds a better one; who starts later has what was taken."""
    worker, later = Worker(logdir), Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    (logdir / "a" / "1.pt").write_text("7")
    await later.deployment.catch_up()
    assert later.epoch == 1
    await worker.deployment.reload("a/1.pt", job=None, order=(2, 1))
    (logdir / "a" / "1.pt").unlink()
    assert worker.epoch == 7
    await worker.deployment.rollback(order=(3, 2))
    assert worker.epoch == 1


async def test_workers_agree_when_a_file_is_written_over_between_them(logdir: Path) -> None:
    """The second one to do a command serves what the first one found."""

    def load_and_be_overtaken(path: Path, job: str) -> Any:
        model = load(path, job)
        if path.name == "2.pt":
            asyncio.run_coroutine_threadsafe(overtake(), loop).result()
        return model

    async def overtake() -> None:
        (logdir / "a" / "2.pt").write_text("8")
        await fast.deployment.reload("a/2.pt", job=None, order=(1, 0))
        (logdir / "a" / "2.pt").write_text("2")

    loop = asyncio.get_running_loop()
    fast, slow = Worker(logdir), Worker(logdir, load_and_be_overtaken)
    await slow.deployment.reload("a/2.pt", job=None, order=(1, 0))
    assert (fast.epoch, slow.epoch) == (8, 8)


async def test_a_file_that_changes_while_it_is_deployed_is_refused(logdir: Path) -> None:
    """What is recorded is what was verified, never something else under its name."""

    def load_what_changes(path: Path, job: str) -> Any:
        model = load(path, job)
        path.write_text("9")
        return model

    worker = Worker(logdir, load_what_changes)
    with pytest.raises(BadCommand, match=r"1\.pt: was written over .* send the command again"):
        await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    assert await Worker(logdir).deployment.catch_up() is None


async def test_only_the_copies_in_use_are_kept(logdir: Path) -> None:
    """That is, of the current model and of the one before; other files are left alone."""
    worker = Worker(logdir)
    (logdir / "deployed").mkdir()
    (logdir / "deployed" / "notes.pt").touch()
    for order, path in enumerate(("a/1.pt", "a/2.pt", "b/3.pt")):
        await worker.deployment.reload(path, job=None, order=(order, 0))
    copies = [path for path in (logdir / "deployed").iterdir() if path.name != "notes.pt"]
    assert sorted(path.read_text() for path in copies) == ["2", "3"]
    assert (logdir / "deployed" / "notes.pt").exists()


async def test_a_first_start_has_nothing_to_take(logdir: Path) -> None:
    """Without a record there is no model, and images wait."""
    worker = Worker(logdir)
    assert await worker.deployment.catch_up() is None
    with pytest.raises(WorkerError, match="before there is a model"):
        _ = worker.predictor.model


async def test_rollback_goes_back_and_forth(logdir: Path) -> None:
    """A rollback serves the one before; the next one returns."""
    worker = Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    await worker.deployment.reload("a/2.pt", job=None, order=(2, 1))
    await worker.deployment.rollback(order=(3, 2))
    assert worker.epoch == 1
    await worker.deployment.rollback(order=(4, 3))
    assert worker.epoch == 2


async def test_rollback_without_an_earlier_model_is_refused(logdir: Path) -> None:
    """The error says what to do instead."""
    worker = Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    with pytest.raises(BadCommand, match="no earlier model"):
        await worker.deployment.rollback(order=(2, 1))


async def test_every_worker_ends_with_the_last_command(logdir: Path) -> None:
    """A worker that does the same commands later changes nothing, and arrives at the same model."""
    fast, slow = Worker(logdir), Worker(logdir)
    for worker in (fast, slow):
        await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
        await worker.deployment.reload("a/2.pt", job=None, order=(2, 1))
        await worker.deployment.rollback(order=(3, 2))
        assert worker.epoch == 1
    late = Worker(logdir)
    await late.deployment.catch_up()
    assert late.epoch == 1


@pytest.mark.parametrize("path", ["../b.pt", "/etc/passwd", "a/../../b.pt"])
async def test_a_path_outside_the_log_directory_is_refused(logdir: Path, path: str) -> None:
    """A command cannot make a worker read other files."""
    with pytest.raises(BadCommand, match="outside the log directory"):
        await Worker(logdir).deployment.reload(path, job=None, order=(1, 0))


async def test_a_link_that_leads_outside_is_refused(logdir: Path, tmp_path: Path) -> None:
    """Nor by way of a link."""
    (logdir / "a" / "out.pt").symlink_to(tmp_path.parent / "elsewhere.pt")
    with pytest.raises(BadCommand, match="outside the log directory"):
        await Worker(logdir).deployment.reload("a/out.pt", job=None, order=(1, 0))


async def test_a_bad_checkpoint_leaves_the_old_model(logdir: Path) -> None:
    """The record keeps the old one too."""
    worker = Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    with pytest.raises(BadCommand, match="no such file"):
        await worker.deployment.reload("a/9.pt", job=None, order=(2, 1))
    restarted = Worker(logdir)
    await restarted.deployment.catch_up()
    assert (worker.epoch, restarted.epoch) == (1, 1)


async def test_another_form_is_served_only_when_it_is_forced(logdir: Path) -> None:
    """Other classes are refused, saying which they are; forced they are served, and rolled back."""
    worker, later = Worker(logdir), Worker(logdir)
    await worker.deployment.reload("a/1.pt", job=None, order=(1, 0))
    with pytest.raises(BadCommand, match=r'three classes, and .* two classes; .*"force": true'):
        await worker.deployment.reload("c/4.pt", job=None, order=(2, 1))
    assert worker.epoch == 1
    await worker.deployment.reload("c/4.pt", job=None, order=(3, 2), force=True)
    await later.deployment.catch_up()
    assert (worker.epoch, later.epoch) == (4, 4)
    await worker.deployment.rollback(order=(4, 3))
    await later.deployment.catch_up()
    assert (worker.epoch, later.epoch) == (1, 1)


async def test_a_damaged_record_is_named(logdir: Path) -> None:
    """The error has the file's name and what to do."""
    (logdir / "deployed.json").write_text("{}")
    with pytest.raises(WorkerError, match=r"deployed\.json is damaged"):
        await Worker(logdir).deployment.catch_up()
