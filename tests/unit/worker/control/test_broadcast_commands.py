"""What every worker does, each with its own answer."""

import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trainer
from worker.control.broadcast_commands import BroadcastCommands
from worker.images.deployment import Deployment
from worker.images.predictor import Predictor
from worker.messages.commands import (
    Command,
    ReloadCheckpoint,
    Rollback,
    StartTraining,
    Status,
    StopTraining,
)
from worker.messages.events import EventPublisher
from worker.training.jobs.job import Job, JobState
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner


class Worker:
    """One worker with a deployment that keeps real records of checkpoints that are not real."""

    def __init__(self, logdir: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.offset = 0
        self.ledger = Ledger(logdir)
        events = EventPublisher(self.send, "worker-1")
        self.broadcast_commands = BroadcastCommands(
            Deployment(logdir, Predictor(on_first_model=lambda: None), load=self.load),
            self.ledger,
            events,
            Runner(self.ledger, events, send_command=self.send_command, datadir=logdir),
            partitions=lambda: [3, 1],
            versions={"darkroom": "0.1.0"},
        )

    def load(self, path: Path, job: str) -> Any:
        if path.name == "broken.pt":
            raise trainer.CheckpointError("broken.pt is cut short")
        return SimpleNamespace(
            id=SimpleNamespace(job=job, epoch=4, sha256=sha256(path.read_bytes()).hexdigest()),
            form="ten classes",
        )

    async def send(self, key: bytes, value: bytes) -> None:
        assert key == b"worker-1"
        self.events.append(json.loads(value))

    async def send_command(self, command: Command) -> None:
        raise AssertionError(command)

    async def hear(self, command: Command) -> None:
        self.offset += 1
        await self.broadcast_commands.handle(command, (1000, self.offset))

    @property
    def answers(self) -> list[tuple[str, str]]:
        return [(event["event"], event["id"]) for event in self.events]


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    for job in ("a", "b"):
        (tmp_path / job / "checkpoints").mkdir(parents=True)
        (tmp_path / job / "checkpoints" / "best.pt").write_text(job)
    return Worker(tmp_path)


async def test_a_reload_names_the_model(worker: Worker) -> None:
    """The answer has the model's job, epoch and hash, and where its checkpoint is."""
    await worker.hear(ReloadCheckpoint(id="r", job="a"))

    (event,) = worker.events
    assert (event["event"], event["worker"], event["id"]) == ("reloaded", "worker-1", "r")
    assert event["model"] == {"job": "a", "epoch": 4, "sha256": sha256(b"a").hexdigest()}
    assert event["checkpoint"] == "a/checkpoints/best.pt"


async def test_a_reload_that_fails_says_why(worker: Worker) -> None:
    """The old model stays, and the answer has the reason."""
    await worker.hear(ReloadCheckpoint(id="r1", job="a"))
    await worker.hear(ReloadCheckpoint(id="r2", checkpoint="a/checkpoints/broken.pt"))
    await worker.hear(Status(id="s"))

    failed, status = worker.events[1:]
    assert (failed["event"], failed["id"]) == ("reload-failed", "r2")
    assert failed["reason"] == "broken.pt is cut short"
    assert status["checkpoint"] == "a/checkpoints/best.pt"


async def test_a_rollback_goes_one_back(worker: Worker) -> None:
    """What was served before is served again."""
    await worker.hear(ReloadCheckpoint(id="r1", job="a"))
    await worker.hear(ReloadCheckpoint(id="r2", job="b"))
    await worker.hear(Rollback(id="r3"))

    assert worker.answers == [("reloaded", "r1"), ("reloaded", "r2"), ("rolled-back", "r3")]
    assert worker.events[-1]["model"]["job"] == "a"


async def test_a_rollback_to_nothing_says_so(worker: Worker) -> None:
    """Without an earlier model the answer says what to do."""
    await worker.hear(Rollback(id="r"))

    assert worker.answers == [("reload-failed", "r")]
    assert "reload-checkpoint" in worker.events[0]["reason"]


async def test_a_rollback_is_done_once(worker: Worker) -> None:
    """Its second delivery does not go back again, or forth."""
    for job in ("a", "b"):
        await worker.hear(ReloadCheckpoint(id=job, job=job))
    await worker.hear(Rollback(id="r"))
    await worker.hear(Rollback(id="r"))

    assert [event["model"]["job"] for event in worker.events] == ["a", "b", "a"]


async def test_status_tells_what_is_served_and_trained(worker: Worker) -> None:
    """Model, jobs, this worker's partitions and the versions, every time it is asked."""
    for job in (Job(name="a", epoch=3, num_epochs=9), Job(name="b", state=JobState.FAILED)):
        with worker.ledger.lock(job.name):  # type: ignore[union-attr]
            worker.ledger.write(job)
    await worker.hear(Status(id="s"))
    await worker.hear(Status(id="s"))

    first, second = worker.events
    assert (first["model"], first["partitions"]) == (None, [1, 3])
    assert first["versions"] == {"darkroom": "0.1.0"}
    jobs = {job["job"]: (job["state"], job["epoch"]) for job in first["jobs"]}
    assert jobs == {"a": ("accepted", 3), "b": ("failed", None)}
    assert second["event"] == "status"


@pytest.mark.parametrize("command", [StartTraining(id="a"), StopTraining(id="s", job="a")])
async def test_what_concerns_one_worker_is_not_answered(worker: Worker, command: Command) -> None:
    """A worker that does not run a job has nothing to say about its end."""
    await worker.hear(command)

    assert worker.answers == []
