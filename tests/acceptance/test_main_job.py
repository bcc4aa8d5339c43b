"""The main job on a real Apache Kafka: the same suite, and what only several workers can show."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.job_room import spawned_by
from tests.main_job import LONG, MainJob
from tests.worker_life import WorkerLife
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS

N_IMAGES = 2000


class TestMainJob(MainJob):
    """What every broker gives."""


class TestWorkerLife(WorkerLife):
    """What every broker gives, and what a real Kafka does."""


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

        assert len(started) == 1
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

    def test_no_image_is_lost_when_a_worker_is_killed(
        self, served: LocalDeployment, images: LabelledImages
    ) -> None:
        """Kill -9 of one of two workers amid 2,000 images: every image has its prediction."""
        many = np.resize(images.images, (N_IMAGES, 28, 28))
        ids = [f"image-{index}" for index in range(N_IMAGES)]
        victim, survivor = served.start_workers(2)
        client = served.client
        client.send_images(many[: N_IMAGES // 2], ids[: N_IMAGES // 2])
        client.predictions(ids[:10])
        client.send_images(many[N_IMAGES // 2 :], ids[N_IMAGES // 2 :])
        victim.kill()
        predictions = client.predictions(ids)

        assert set(predictions) == set(ids)
        assert survivor.terminate() == 0

    def test_another_worker_goes_on_with_the_job_of_a_killed_one(
        self, fresh: LocalDeployment
    ) -> None:
        """Kill -9 of the worker that trains: the other one resumes its job and finishes it."""
        workers = fresh.start_workers(2)
        client = fresh.client
        client.command("start-training", id="moves", params=QUICK_PARAMS | {"num_epochs": 6})
        started = client.event("started", job="moves")
        client.events("epoch", 2, job="moves")
        trains = next(w for w in workers if str(w.process.pid) in started["worker"])
        trains.kill()
        trains.wait_alone()
        resumed = client.event("resumed", job="moves")
        finished = client.event("finished", job="moves")

        assert resumed["worker"] != started["worker"]
        assert finished["epoch"] == 6

    def test_a_training_by_two_processes_outlives_them_and_its_worker(
        self, fresh: LocalDeployment
    ) -> None:
        """Kill -9 of a rank, then of the worker: resumed each time, nothing left, then served."""
        params = QUICK_PARAMS | {"num_epochs": 12, "device": "cpu"}
        worker = fresh.start_worker()
        client = fresh.client
        client.command("start-training", id="both", params=params, processes=2)
        client.events("checkpoint", 1, job="both")
        (launcher,) = spawned_by(worker.process.pid)
        os.kill(spawned_by(launcher)[1], signal.SIGKILL)
        after_rank = client.events("resumed", 1, job="both")[-1]
        client.events("checkpoint", after_rank["epoch"] + 1, job="both")
        worker.kill()
        worker.wait_alone()
        fresh.start_worker()
        after_worker = client.events("resumed", 2, job="both")[-1]
        finished = client.event("finished", job="both")
        client.event("reloaded", checkpoint=finished["checkpoint"])

        assert "process 2 of 2 was ended by SIGKILL" in after_rank["reason"]
        assert after_worker["epoch"] > after_rank["epoch"] >= 1
        assert finished["epoch"] == 12
