"""What only a real Kafka can show of the main job: messages outlive a worker, workers share them.

The whole suite of the main job runs on a secured Kafka: `tests/acceptance/secure`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.main_job import LONG, STOP_S
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS


class TestWorkerLife:
    """A worker stops or dies, and another starts."""

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


class TestTwoWorkers:
    """Two workers on one log folder share the images, the commands and the jobs."""

    @pytest.fixture(scope="class")
    @classmethod
    def pair(
        cls, tmp_path_factory: pytest.TempPathFactory, kafka_host: str, trained_folder: Path
    ) -> Iterator[LocalDeployment]:
        folder = tmp_path_factory.mktemp("pair")
        shutil.copytree(trained_folder, folder, dirs_exist_ok=True)
        with LocalDeployment(folder, kafka_host) as deployment:
            deployment.start_workers(2)
            deployment.client.events("reloaded", 2)  # each tells what it has found deployed
            yield deployment

    def test_both_workers_serve_what_a_command_names(
        self, pair: LocalDeployment, images: LabelledImages
    ) -> None:
        """A reload is heard by every worker, and both predict with the new checkpoint."""
        client = pair.client
        client.command("reload-checkpoint", id="all", checkpoint="first/checkpoints/epoch-00001.pt")
        reloaded = client.events("reloaded", 2, id="all")
        ids = images.ids("both")
        client.send_images(images.images, ids)
        predictions = client.predictions(ids)

        assert len({event["worker"] for event in reloaded}) == 2
        assert {prediction["model"]["epoch"] for prediction in predictions.values()} == {1}

    def test_exactly_one_worker_trains(self, pair: LocalDeployment) -> None:
        """Of two workers one takes the command; the result is served by both."""
        finished = pair.train("only-once")
        both = pair.client.events("reloaded", 2, checkpoint=finished["checkpoint"])
        started = pair.client.events("started", 1, job="only-once")
        epochs = pair.client.events("epoch", 4, job="only-once")

        assert len(started) == 1
        assert [event["epoch"] for event in epochs] == [1, 2, 3, 4]
        assert len({event["worker"] for event in both}) == 2

    def test_stop_training_reaches_the_worker_that_trains(self, pair: LocalDeployment) -> None:
        """stop-training is heard by all, and the one that trains obeys."""
        client = pair.client
        client.command("start-training", id="long", params=LONG)
        client.event("epoch", job="long")
        client.command("stop-training", id="enough", job="long")
        client.event("cancelled", job="long")

        assert client.events("rejected", 0, id="enough") == []


class TestAKilledWorker:
    """Of two workers one is killed with -9."""

    def test_another_worker_goes_on_with_the_job_of_a_killed_one(
        self, fresh: LocalDeployment
    ) -> None:
        """Kill -9 of a worker that trains with two processes: the other resumes and finishes it."""
        workers = fresh.start_workers(2)
        client = fresh.client
        params = QUICK_PARAMS | {"num_epochs": 6, "device": "cpu"}
        client.command("start-training", id="moves", params=params, processes=2)
        started = client.event("started", job="moves")
        client.events("epoch", 2, job="moves")
        trains = next(w for w in workers if str(w.process.pid) in started["worker"])
        trains.kill()
        trains.wait_alone()
        resumed = client.event("resumed", job="moves")
        finished = client.event("finished", job="moves")

        assert resumed["worker"] != started["worker"]
        assert finished["epoch"] == 6
