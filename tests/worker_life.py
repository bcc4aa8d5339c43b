"""Workers that start, stop and die: what holds on the embedded broker and on a real Kafka alike."""

from __future__ import annotations

import json
import time

from tests.main_job import LONG
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS

STOP_S = 10.0


def successor(deployment: LocalDeployment) -> LocalDeployment:
    """Return a deployment on the same folder, Kafka and topics, after the end of this one."""
    return LocalDeployment(deployment.folder, deployment.kafka, deployment.topic)


class WorkerRestarts:
    """Start, stop, start again; on every broker."""

    def test_a_worker_that_starts_serves_what_is_deployed(
        self, served: LocalDeployment, images: LabelledImages
    ) -> None:
        """Which classifier is served outlives the worker: no command is needed after a start."""
        served.start_worker()
        ids = images.ids("restart")
        served.client.send_images(images.images, ids)
        predictions = served.client.predictions(ids)

        assert images.accuracy(predictions, ids) >= 0.9

    def test_sigterm_while_training_leaves_a_job_that_goes_on(self, fresh: LocalDeployment) -> None:
        """SIGTERM during a training ends the worker in time; the next one finishes the job."""
        worker = fresh.start_worker()
        fresh.client.command("start-training", id="cut", params=LONG)
        fresh.client.events("epoch", 2, job="cut")
        begin = time.monotonic()
        code = worker.terminate()
        seconds = time.monotonic() - begin
        worker.wait_alone()
        with successor(fresh) as again:
            again.start_worker()
            resumed = again.client.event("resumed", job="cut")
            again.client.command("stop-training", job="cut")
            again.client.event("cancelled", job="cut")

        assert code == 0, worker.report(f"exit code {code}")
        assert seconds < STOP_S
        assert resumed["epoch"] >= 2


class WorkerLife(WorkerRestarts):
    """What besides holds where messages outlive the worker: on a real Kafka."""

    def test_sigterm_ends_a_worker(self, served: LocalDeployment, images: LabelledImages) -> None:
        """SIGTERM while images are served: the exit code is 0 within 10 s, and nothing is left."""
        worker = served.start_worker()
        ids = images.ids("last")
        served.client.send_images(images.images, ids)
        served.client.predictions(ids[:1])
        begin = time.monotonic()
        code = worker.terminate()
        seconds = time.monotonic() - begin
        worker.wait_alone()

        assert code == 0, worker.report(f"exit code {code}")
        assert seconds < STOP_S

    def test_kill_while_training_leaves_a_job_that_goes_on(self, fresh: LocalDeployment) -> None:
        """Kill -9 during a training: its process dies too, and the next worker finishes the job."""
        worker = fresh.start_worker()
        params = QUICK_PARAMS | {"num_epochs": 6}
        fresh.client.command("start-training", id="cut", params=params)
        fresh.client.events("epoch", 2, job="cut")
        worker.kill()
        worker.wait_alone()
        with successor(fresh) as again:
            again.start_worker()
            resumed = again.client.event("resumed", job="cut")
            finished = again.client.event("finished", job="cut")
            again.client.event("reloaded", checkpoint=finished["checkpoint"])

        assert resumed["epoch"] >= 1
        assert finished["epoch"] == 6
        assert json.loads((fresh.logdir / "cut" / "job.json").read_text())
