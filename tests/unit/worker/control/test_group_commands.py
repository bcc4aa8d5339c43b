"""What is done once is done once, and what cannot be done is refused with the reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import trainer
from tests.unit.worker.control.lone_worker import PLACE, Worker
from worker.training.jobs.job import Job, JobState


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path / "logs")


async def test_a_training_is_on_disk_before_it_is_accepted(worker: Worker) -> None:
    """When anyone hears of a job, no crash can lose it any more."""
    on_disk: list[Job] = []
    worker.on_event = lambda event: on_disk.append(worker.job(event["job"]))
    await worker.take("start-training", id="a", params={"batch_size": 32}, deploy="never")

    (job,) = on_disk
    assert (job.state, job.deploy, job.accepted_at) == (JobState.ACCEPTED, "never", 7.0)
    assert job.params == {"num_epochs": 9, "batch_size": 32}


async def test_the_second_delivery_changes_nothing(worker: Worker) -> None:
    """The same command again is neither accepted nor refused, whatever it carries."""
    await worker.take("start-training", id="a")
    kept = worker.job()
    await worker.take("start-training", id="a", params={"num_epochs": 1})
    await worker.take("start-training", id="a", params={"nonsense": 1})

    assert worker.answers == [("accepted", "a")]
    assert worker.job() == kept


@pytest.mark.parametrize("state", JobState)
async def test_a_job_that_was_announced_is_not_touched(worker: Worker, state: JobState) -> None:
    """In whatever state a job is, its command's second delivery leaves it there."""
    job = Job(name="a", state=state, published_state=state)
    worker.keep(job)
    await worker.take("start-training", id="a")

    assert (worker.answers, worker.job()) == ([], job)


async def test_an_acceptance_that_was_not_confirmed_is_published_again(worker: Worker) -> None:
    """The worker died between the disk and the answer: the next delivery brings the answer."""

    def is_away(_event: dict[str, Any]) -> None:
        raise OSError("the broker is away")

    worker.on_event = is_away
    with pytest.raises(OSError, match="away"):
        await worker.take("start-training", id="a")
    on_disk = worker.job()
    worker.on_event = worker.events.append
    await worker.take("start-training", id="a")

    assert on_disk.published_state is None
    assert worker.answers == [("accepted", "a")]  # and not rejected
    assert worker.job().published_state is JobState.ACCEPTED


async def test_a_job_that_somebody_works_on_is_left_to_him(worker: Worker) -> None:
    """A delivery after the crash of the worker that kept the job comes second to its adoption."""
    worker.keep(Job(name="a"))
    with worker.ledger.lock("a"):  # type: ignore[union-attr]
        await worker.take("start-training", id="a")

    assert worker.answers == []


async def test_wrong_params_are_refused_all_at_once(worker: Worker) -> None:
    """The rejection lists every wrong key and value, and nothing is left on disk."""
    params = {"num_epoch": 3, "batch_size": -1, "optim_class": "os.system"}
    await worker.take("start-training", id="a", params=params)

    assert worker.answers == [("rejected", "a")]
    assert all(name in worker.reason for name in ("num_epoch", "batch_size", "os.system"))
    assert not worker.ledger.folder("a").exists()


async def test_params_that_break_the_check_end_no_worker(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A command that the worker could not survive would come again after every restart."""

    def is_broken(_params: object) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(trainer.Params, "validate_all", is_broken)
    await worker.take("start-training", id="a")

    assert "cannot be checked" in worker.reason
    assert "too deep" in caplog.text


async def test_the_number_of_processes_is_kept(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has as many as its command asks for."""
    monkeypatch.setattr("worker.training.jobs.processes._cores", lambda: 2)
    await worker.take("start-training", id="a", params={"device": "cpu"}, processes=2)

    assert worker.job().processes == 2


async def test_more_processes_than_cores_are_refused(worker: Worker) -> None:
    """They would slow each other down; the answer says how many are possible."""
    await worker.take("start-training", id="a", params={"device": "cpu"}, processes=1024)

    assert "processes: 1024 is too many; each needs a core of its own" in worker.reason
    assert not worker.ledger.folder("a").exists()


@pytest.mark.parametrize("name", ["mine", "deployed.json"])
async def test_a_folder_that_is_in_use_is_not_taken_over(worker: Worker, name: str) -> None:
    """A job never writes into somebody's own run or over a file."""
    (worker.ledger.logdir / "mine").mkdir(parents=True)
    (worker.ledger.logdir / "mine" / "events.out.tfevents").touch()
    (worker.ledger.logdir / "deployed.json").touch()
    await worker.take("start-training", id=name)

    assert "choose another id" in worker.reason


async def test_a_log_directory_that_cannot_be_written_ends_no_worker(worker: Worker) -> None:
    """Serving goes on; the command is refused with what the system says."""
    worker.ledger.logdir.touch()  # a file where the folder should be
    await worker.take("start-training", id="a")

    assert "log directory cannot be used" in worker.reason


async def test_a_damaged_job_is_refused(worker: Worker) -> None:
    """What is left of it may be worth something: nobody writes over it."""
    worker.keep(Job(name="a"))
    (worker.ledger.folder("a") / "job.json").write_text("{")
    await worker.take("start-training", id="a")

    assert "a/job.json is damaged" in worker.reason


async def test_a_stop_is_kept_for_whoever_runs_the_job(worker: Worker) -> None:
    """The job is stopped also by a worker that was away when the command came."""
    await worker.take("start-training", id="a")
    await worker.take("stop-training", id="stop-1", job="a")
    await worker.take("stop-training", id="stop-2", job="a")

    assert worker.ledger.stop_request("a") == "stop-1"
    assert worker.answers == [("accepted", "a")]


async def test_stopping_an_unknown_job_is_refused_with_a_likely_one(worker: Worker) -> None:
    """A slip in the name is pointed out."""
    worker.keep(Job(name="digits-1"))
    await worker.take("stop-training", id="s", job="digits-2")

    assert "'digits-2' is not known; did you mean digits-1?" in worker.reason
    assert not worker.ledger.folder("digits-2").exists()


@pytest.mark.parametrize("state", [JobState.FINISHED, JobState.FAILED, JobState.CANCELLED])
async def test_what_is_over_cannot_be_stopped(worker: Worker, state: JobState) -> None:
    """The answer says how it ended."""
    worker.keep(Job(name="a", state=state, published_state=state))
    await worker.take("stop-training", id="s", job="a")

    assert f"'a' is {state} already" in worker.reason


async def test_the_second_delivery_of_a_stop_is_no_mistake(worker: Worker) -> None:
    """When the job has been cancelled by this very command, nothing is to be said."""
    await worker.take("start-training", id="a")
    await worker.take("stop-training", id="s", job="a")
    worker.keep(worker.job().replaced(state=JobState.CANCELLED, published_state=JobState.CANCELLED))
    await worker.take("stop-training", id="s", job="a")

    assert worker.answers == [("accepted", "a")]


async def test_an_evaluation_is_a_job(worker: Worker) -> None:
    """It is kept and accepted like a training."""
    await worker.take("evaluate", id="e", job="a", kind="train")

    job = worker.job("e")
    assert (job.kind, job.checkpoint, job.split) == ("evaluation", "a/checkpoints/best.pt", "train")
    assert worker.answers == [("accepted", "e")]


async def test_an_id_belongs_to_one_command(worker: Worker) -> None:
    """An evaluation with the id of a training is a mistake, not a second delivery."""
    await worker.take("start-training", id="a")
    worker.events.clear()
    await worker.take("evaluate", id="a", job="b")

    assert "'a' is the id of another training" in worker.reason


@pytest.mark.parametrize("command", ["reload-checkpoint", "evaluate"])
@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", "a/../../x.pt", "link/x.pt"])
async def test_a_path_outside_the_log_directory_is_refused(
    worker: Worker, command: str, path: str
) -> None:
    """No message can make a worker read what is not its own, through a link either."""
    worker.ledger.logdir.mkdir()
    (worker.ledger.logdir / "link").symlink_to("/etc")
    await worker.take(command, id="x", checkpoint=path)

    assert f"{path!r} lies outside the log directory" in worker.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"command": "reload-checkpoint", "id": "x", "checkpoint": "a/checkpoints/best.pt"},
        {"command": "rollback", "id": "x"},
        {"command": "status", "id": "x"},
    ],
)
async def test_what_every_worker_does_is_not_answered_here(
    worker: Worker, fields: dict[str, str]
) -> None:
    """The answer to such a command comes from each worker, and not once more."""
    await worker.group_commands.handle(json.dumps(fields).encode(), PLACE)

    assert worker.answers == []


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b'{"id": 3}', b"\xff", b"null"])
async def test_noise_is_refused(worker: Worker, value: bytes | None) -> None:
    """What is no command is answered under the id of its place in the topic."""
    await worker.group_commands.handle(value, PLACE)

    assert worker.answers == [("rejected", PLACE)]


async def test_a_job_whose_folder_was_deleted_can_be_started_again(worker: Worker) -> None:
    """Deleting its folder is how people forget a job."""
    await worker.take("start-training", id="a")
    shutil.rmtree(worker.ledger.folder("a"))
    await worker.take("start-training", id="a")

    assert worker.answers == [("accepted", "a"), ("accepted", "a")]
