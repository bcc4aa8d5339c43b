"""The main job on the embedded broker, through the real command line."""

from __future__ import annotations

import json
import time

import pytest

from tests.main_job import MainJob
from tests.worker_life import WorkerRestarts
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.programs.worker_process import WorkerEndedError


class TestMainJob(MainJob):
    """What every broker gives."""


class TestWorkerLife(WorkerRestarts):
    """What every broker gives, and what only the embedded one does."""

    def test_embedded_broker_is_announced(self, fresh: LocalDeployment) -> None:
        """A worker on the embedded broker warns that it keeps nothing and says where it is."""
        worker = fresh.start_worker()
        address = json.loads((fresh.logdir / "broker.json").read_text())["bootstrap"]
        worker.terminate()

        assert address in worker.log
        assert "KEEPS NOTHING" in worker.log
        assert not (fresh.logdir / "broker.json").exists()

    def test_a_wrong_setting_stops_the_start(self, fresh: LocalDeployment) -> None:
        """A wrong setting ends the start with one message that names it, and no traceback."""
        with pytest.raises(WorkerEndedError, match="ended without"):
            fresh.start_worker(DARKROOM_PARTITIONS="many")

        log = fresh.workers[0].log
        assert "DARKROOM_PARTITIONS" in log
        assert "Traceback" not in log
        assert fresh.workers[0].wait(5.0) != 0


@pytest.mark.alone
class TestStart:
    """How soon a worker is ready."""

    def test_ready_within_five_seconds(
        self, served: LocalDeployment, images: LabelledImages
    ) -> None:
        """A worker and its broker are ready 5 s after the start, and it serves what is deployed."""
        seconds = []
        for _ in range(3):  # the best of three: others may be busy on this machine
            begin = time.monotonic()
            worker = served.start_worker()
            seconds.append(time.monotonic() - begin)
            if seconds[-1] < 5:
                break
            worker.terminate()
        served.client.send_images(images.images[:1], ["one"])
        served.client.predictions(["one"])

        assert min(seconds) < 5, worker.report(f"ready after {seconds} s")
