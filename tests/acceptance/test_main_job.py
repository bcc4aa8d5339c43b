"""The main job on a real Apache Kafka: the same suite, and what only several workers can show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.main_job import LONG, MainJob, data, digits, trained
from tests.worker_life import WorkerLife, fresh, served
from worker.testing.brokers import RealKafka
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS

__all__ = ["data", "digits", "fresh", "served", "trained"]  # fixtures

N_IMAGES = 2000


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RealKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka.bootstrap


class TestMainJob(MainJob):
    """What every broker gives."""


class TestWorkerLife(WorkerLife):
    """What every broker gives."""


class TestTwoWorkers:
    """Two workers on one log folder share the images, the commands and the jobs."""

    def test_no_image_is_lost_when_a_worker_is_killed(
        self, served: LocalDeployment, digits: LabelledImages
    ) -> None:
        """Kill -9 of one of two workers amid 2,000 images: every image has its prediction."""
        images = np.resize(digits.images, (N_IMAGES, 28, 28))
        ids = [f"image-{index}" for index in range(N_IMAGES)]
        with served:
            victim, survivor = served.start_worker(), served.start_worker()
            client = served.client
            client.send_images(images[: N_IMAGES // 2], ids[: N_IMAGES // 2])
            client.predictions(ids[:10])
            client.send_images(images[N_IMAGES // 2 :], ids[N_IMAGES // 2 :])
            victim.kill()
            predictions = client.predictions(ids, timeout_s=90.0)
            code = survivor.terminate()

        assert set(predictions) == set(ids)
        assert code == 0

    def test_both_workers_serve_what_a_command_names(
        self, served: LocalDeployment, digits: LabelledImages
    ) -> None:
        """A reload is heard by every worker, and both predict with the new checkpoint."""
        with served:
            served.start_worker()
            served.start_worker()
            client = served.client
            client.events("reloaded", 2)  # each tells what it has found deployed
            client.command(
                "reload-checkpoint", id="all", checkpoint="first/checkpoints/epoch-00001.pt"
            )
            reloaded = client.events("reloaded", 2, id="all")
            ids = digits.ids("both")
            client.send_images(digits.images, ids)
            predictions = client.predictions(ids)

        assert len({event["worker"] for event in reloaded}) == 2
        assert {prediction["model"]["epoch"] for prediction in predictions.values()} == {1}

    def test_exactly_one_worker_trains(self, fresh: LocalDeployment) -> None:
        """Of two workers one takes the command; the result is served by both."""
        with fresh:
            fresh.start_worker()
            fresh.start_worker()
            client = fresh.client
            finished = fresh.train("only-once")
            both = client.events("reloaded", 2, checkpoint=finished["checkpoint"])
            started = client.events("started", 1, job="only-once")

        assert len(started) == 1
        assert len({event["worker"] for event in both}) == 2

    def test_another_worker_goes_on_with_the_job_of_a_killed_one(
        self, fresh: LocalDeployment
    ) -> None:
        """Kill -9 of the worker that trains: the other one resumes its job and finishes it."""
        with fresh:
            workers = [fresh.start_worker(), fresh.start_worker()]
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

    def test_stop_training_reaches_the_worker_that_trains(self, fresh: LocalDeployment) -> None:
        """stop-training is heard by all, and the one that trains obeys."""
        with fresh:
            fresh.start_worker()
            fresh.start_worker()
            client = fresh.client
            client.command("start-training", id="long", params=LONG)
            client.event("epoch", job="long")
            client.command("stop-training", id="enough", job="long")
            client.event("cancelled", job="long")
            rejections = client.events("rejected", 0, id="enough")

        assert rejections == []
