"""The events of a job are published in order, as soon as the broker accepts them."""

import asyncio
import json
from typing import Any

import pytest

from worker.backoff import Backoff
from worker.messages.commands import Command
from worker.messages.events import EventPublisher
from worker.training.job_events import JobEvents
from worker.training.jobs.job import Job, JobState
from worker.training.process.messages import JobEpoch, JobStarted

EPOCH = JobEpoch(
    epoch=1,
    num_epochs=2,
    train_loss=0.5,
    test_loss=None,
    train_metrics={"accuracy": 0.5},
    test_metrics={},
    learning_rate=0.1,
    images_per_s=100.0,
)


class Broker:
    """Refuses the first messages, then keeps what it gets."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self.stopping = asyncio.Event()
        events = EventPublisher(self.send, "worker-1")
        self.backoff = Backoff(0.001, 0.004, jitter=lambda _low, high: high)
        self.job_events = JobEvents(events, self.send_command, self.stopping, self.backoff)

    async def send(self, key: bytes, value: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            raise OSError("the broker is away")
        event = json.loads(value)
        assert key.decode() == event.get("job", event["id"])
        self.events.append(event)

    async def send_command(self, command: Command) -> None:
        self.commands.append(command)

    @property
    def names(self) -> list[str]:
        return [event["event"] for event in self.events]


async def test_what_is_refused_is_sent_again_before_what_follows() -> None:
    """An outage of the broker delays events and loses none; their order stays."""
    broker = Broker(refusals=1)
    await broker.job_events.epoch(Job(name="a"), EPOCH)
    await broker.job_events.end(Job(name="a", state=JobState.FAILED, reason="bad data"), None)

    assert broker.names == ["epoch", "failed"]
    assert broker.events[1]["reason"] == "bad data"


async def test_the_second_outage_begins_with_a_short_delay() -> None:
    """Once an event is confirmed, the next outage is met with the first delay again."""
    broker = Broker(refusals=5)
    await broker.job_events.epoch(Job(name="a"), EPOCH)

    assert broker.names == ["epoch"]
    assert broker.backoff.next_delay_s() == 0.001


async def test_a_worker_that_stops_waits_for_no_broker() -> None:
    """While it stops, what cannot be delivered is left for the next start."""
    broker = Broker(refusals=1)
    broker.stopping.set()

    with pytest.raises(OSError, match="away"):
        await broker.job_events.end(Job(name="a", state=JobState.FAILED), None)


@pytest.mark.parametrize(
    ("deploy", "checkpoint", "expected"),
    [
        ("best", "a/checkpoints/best.pt", ["a-deploy"]),
        ("never", "a/checkpoints/best.pt", []),
        ("best", None, []),
    ],
)
async def test_a_finished_training_is_deployed_when_that_was_asked_for(
    deploy: Any, checkpoint: str | None, expected: list[str]
) -> None:
    """The best checkpoint is put on the control topic, once there is one and it is wanted."""
    broker = Broker()
    job = Job(name="a", state=JobState.FINISHED, deploy=deploy, checkpoint=checkpoint)
    await broker.job_events.end(job, None)

    assert broker.names == ["finished"]
    assert [command.id for command in broker.commands] == expected


async def test_a_cancelled_job_names_the_command_that_cancelled_it() -> None:
    """Who sent stop-training finds the answer by that command's id, others by the job."""
    broker = Broker()
    await broker.job_events.end(Job(name="a", state=JobState.CANCELLED), "stop-1")

    assert [(event["id"], event["job"]) for event in broker.events] == [("stop-1", "a")]


@pytest.mark.parametrize(
    ("resumed", "attempts", "expected"),
    [(False, 1, "started"), (True, 1, "resumed"), (False, 2, "resumed")],
)
async def test_a_job_starts_once(resumed: bool, attempts: int, expected: str) -> None:
    """A job that goes on, from a checkpoint or from its beginning, is resumed and not started."""
    broker = Broker()
    report = JobStarted(num_epochs=2, first_epoch=1, n_train=10, n_test=5, resumed=resumed)
    job = Job(name="a", attempts=attempts, reason="the process was ended by SIGKILL")
    await broker.job_events.started(job, report)

    assert broker.names == [expected]
    assert broker.events[0].get("reason") == (job.reason if expected == "resumed" else None)


async def test_an_evaluation_is_published_with_its_figures() -> None:
    """The event has what was measured, on what, and no job that a dashboard would list."""
    broker = Broker()
    job = Job(
        name="e",
        kind="evaluation",
        state=JobState.FINISHED,
        checkpoint="a/checkpoints/best.pt",
        images=200,
        metrics={"accuracy": 0.9},
        per_class={"7": {"f1": 0.8}},
    )
    await broker.job_events.end(job, None)

    (event,) = broker.events
    assert {"event", "timestamp", "worker"} < event.keys()
    assert {name: event[name] for name in event if name not in {"timestamp", "worker"}} == {
        "event": "evaluated",
        "id": "e",
        "checkpoint": "a/checkpoints/best.pt",
        "split": "test",
        "images": 200,
        "metrics": {"accuracy": 0.9},
        "per_class": {"7": {"f1": 0.8}},
    }
    assert broker.commands == []
