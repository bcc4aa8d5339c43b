"""The ledger keeps jobs through crashes, and gives each to one process at a time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.training.jobs.job import Job, JobState
from worker.training.jobs.ledger import JobDamaged, Ledger, Lock


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "logs", clock=lambda: 7.0)


def keep(ledger: Ledger, job: Job) -> Job:
    with hold(ledger, job.name):
        return ledger.write(job)


def hold(ledger: Ledger, name: str) -> Lock:
    lock = ledger.lock(name)
    assert lock is not None
    return lock


def test_a_job_is_read_as_it_was_written(ledger: Ledger) -> None:
    """All that is known of a job is there for the next process."""
    job = Job(
        name="a",
        params={"num_epochs": 3, "optim_class": "torch.optim.SGD"},
        state=JobState.RUNNING,
        metrics={"accuracy": 0.5},
    )
    keep(ledger, job)

    assert Ledger(ledger.logdir).read("a") == job


def test_there_is_no_job_where_none_was_written(ledger: Ledger) -> None:
    """A name that nobody used is not known; looking for it makes no folder."""
    assert ledger.read("a") is None
    assert ledger.jobs() == []
    assert not ledger.folder("a").exists()


def test_jobs_come_in_the_order_of_their_acceptance(ledger: Ledger) -> None:
    """The oldest is worked on first."""
    for name, accepted_at in [("c", 1.0), ("a", 3.0), ("b", 2.0)]:
        keep(ledger, Job(name=name, accepted_at=accepted_at))

    assert [job.name for job in ledger.jobs()] == ["c", "b", "a"]


def test_a_job_that_is_over_is_seen_again_when_it_is_written_again(ledger: Ledger) -> None:
    """Deleting a job's folder and sending its command again trains again."""
    over = Job(name="a", state=JobState.FINISHED, published_state=JobState.FINISHED)
    keep(ledger, over)
    seen = [ledger.jobs()]
    keep(ledger, over.replaced(state=JobState.ACCEPTED, published_state=None))
    seen.append(ledger.jobs())
    (ledger.folder("a") / "job.json").unlink()
    seen.append(ledger.jobs())

    assert [[job.state for job in jobs] for jobs in seen] == [["finished"], ["accepted"], []]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": "a", "state": "asleep"}'])
def test_a_damaged_job_is_named_and_hides_no_other(
    ledger: Ledger, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says which file and what to do; the rest of the ledger is still read."""
    keep(ledger, Job(name="a"))
    keep(ledger, Job(name="b"))
    (ledger.folder("a") / "job.json").write_bytes(content)

    with pytest.raises(JobDamaged, match=r"a/job\.json is damaged .* delete the folder"):
        ledger.read("a")
    assert [job.name for job in ledger.jobs()] == ["b"]
    ledger.jobs()
    assert len(caplog.records) == 1


def test_a_write_that_fails_leaves_what_was_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the change, not the job."""
    job = keep(ledger, Job(name="a"))

    def is_full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    with hold(ledger, "a"), pytest.raises(OSError, match="No space"):
        ledger.write(job.replaced(state=JobState.RUNNING))
    monkeypatch.undo()

    assert ledger.read("a") == job


def test_a_lock_is_held_by_one(ledger: Ledger) -> None:
    """Who comes second gets nothing, and does not wait; afterwards it is free."""
    with hold(ledger, "a"):
        assert Ledger(ledger.logdir).lock("a") is None
    hold(ledger, "a").close()


HOLDER = """
import sys, time
from pathlib import Path
from worker.training.jobs.ledger import Ledger
lock = Ledger(Path(sys.argv[1])).lock("a")
print("held" if lock else "taken", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(ledger: Ledger) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of job a."""
    command = [sys.executable, "-c", HOLDER, str(ledger.logdir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_dies_with_its_process(ledger: Ledger, holder: subprocess.Popen[str]) -> None:
    """After a kill -9 of the process that works on it a job is free at once."""
    held = ledger.lock("a")
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert held is None
    hold(ledger, "a").close()


def test_a_lock_that_is_shared_is_free_when_both_have_let_go(ledger: Ledger) -> None:
    """The worker and the job's process hold one lock; one that ends does not free it alone."""
    lock = hold(ledger, "a")
    of_child = os.dup(lock.fileno())
    lock.close()
    by_child_alone = ledger.lock("a")
    os.close(of_child)

    assert by_child_alone is None
    hold(ledger, "a").close()


def test_a_stop_is_asked_for_beside_the_lock(ledger: Ledger) -> None:
    """Whoever works on a job learns that it shall stop, and by which command."""
    keep(ledger, Job(name="a"))
    before = ledger.stop_request("a")
    with hold(ledger, "a"):
        ledger.request_stop("a", "stop-1")

    assert (before, Ledger(ledger.logdir).stop_request("a")) == (None, "stop-1")


def test_what_is_no_job_is_foreign(ledger: Ledger) -> None:
    """A job never takes over a folder with somebody's own run in it, nor a file's name."""
    (ledger.logdir / "mine").mkdir(parents=True)
    (ledger.logdir / "mine" / "events.out.tfevents").touch()
    (ledger.logdir / "deployed.json").touch()
    hold(ledger, "new").close()
    (ledger.folder("new") / ".job.json.123").touch()  # a write that was cut short

    names = ["mine", "deployed.json", "new", "never-was"]
    assert [ledger.is_foreign(name) for name in names] == [True, True, False, False]


def test_job_json_is_for_people_too(ledger: Ledger) -> None:
    """It is plain JSON, and figures that are no numbers are null."""
    keep(ledger, Job(name="a", metrics={"loss": float("nan")}))

    assert json.loads((ledger.folder("a") / "job.json").read_text())["metrics"] == {"loss": None}
