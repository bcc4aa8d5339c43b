"""Workers that start, stop and die: what holds on the embedded broker and on a real Kafka alike."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.main_job import LONG, Trained, data_folder
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS


@pytest.fixture
def fresh(tmp_path: Path, kafka: str, data: Path) -> LocalDeployment:
    """A deployment with data and without a model; a test closes it with `with`."""
    return LocalDeployment(data_folder(data, tmp_path), kafka)


@pytest.fixture
def served(tmp_path: Path, kafka: str, trained: Trained) -> LocalDeployment:
    """A deployment whose log folder has a deployed classifier, and topics without anything."""
    return LocalDeployment(trained.deployment.copy_to(tmp_path), kafka)


class WorkerLife:
    """Start, stop, restart."""

    def test_a_worker_that_starts_serves_what_is_deployed(
        self, served: LocalDeployment, digits: LabelledImages
    ) -> None:
        """Which classifier is served outlives the worker: no command is needed after a start."""
        with served:
            served.start_worker()
            ids = digits.ids("restart")
            served.client.send_images(digits.images, ids)
            predictions = served.client.predictions(ids)

        assert digits.accuracy(predictions, ids) >= 0.9

    def test_sigterm_ends_a_worker(self, served: LocalDeployment, digits: LabelledImages) -> None:
        """SIGTERM while images are served: the exit code is 0 within 10 s, and nothing is left."""
        with served:
            worker = served.start_worker()
            ids = digits.ids("last")
            served.client.send_images(digits.images, ids)
            served.client.predictions(ids[:1])
            begin = time.monotonic()
            code = worker.terminate()
            seconds = time.monotonic() - begin
            worker.wait_alone()

        assert code == 0, worker.report(f"exit code {code}")
        assert seconds < 10

    def test_sigterm_while_training_leaves_a_job_that_goes_on(self, fresh: LocalDeployment) -> None:
        """SIGTERM during a training ends the worker in time; the next one finishes the job."""
        with fresh:
            worker = fresh.start_worker()
            fresh.client.command("start-training", id="cut", params=LONG)
            fresh.client.events("epoch", 2, job="cut")
            begin = time.monotonic()
            code = worker.terminate()
            seconds = time.monotonic() - begin
            worker.wait_alone()
        with LocalDeployment(fresh.folder, fresh.kafka, fresh.topic) as again:
            again.start_worker()
            resumed = again.client.event("resumed", job="cut")
            again.client.command("stop-training", job="cut")
            again.client.event("cancelled", job="cut")

        assert code == 0, worker.report(f"exit code {code}")
        assert seconds < 10
        assert resumed["epoch"] >= 2

    def test_kill_while_training_leaves_a_job_that_goes_on(self, fresh: LocalDeployment) -> None:
        """Kill -9 during a training: its process dies too, and the next worker finishes the job."""
        with fresh:
            worker = fresh.start_worker()
            params = QUICK_PARAMS | {"num_epochs": 6}
            fresh.client.command("start-training", id="cut", params=params)
            fresh.client.events("epoch", 2, job="cut")
            worker.kill()
            worker.wait_alone()
        with LocalDeployment(fresh.folder, fresh.kafka, fresh.topic) as again:
            again.start_worker()
            resumed = again.client.event("resumed", job="cut")
            finished = again.client.event("finished", job="cut")
            again.client.event("reloaded", checkpoint=finished["checkpoint"])

        assert resumed["epoch"] >= 1
        assert finished["epoch"] == 6
        assert json.loads((fresh.logdir / "cut" / "job.json").read_text())
