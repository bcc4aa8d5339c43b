"""No image is lost while the broker is away or refuses what is published."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.chaos.limits import limit_messages
from worker.testing import LabelledImages, LocalDeployment, RealKafka, keep_alive, ordeal
from worker.testing.chaos.faults import END_S, supervise_until_serving, wait_until_serving
from worker.testing.chaos.ordeal import IN_FLIGHT

PER_S = 100.0
OUTAGE_S = 3.0
"""How long the broker is away; 30 s in `scripts/bench chaos`."""
N_AFTER = int(3 * PER_S)
"""Images after which the workers are taken to serve again."""


class TestWithoutABroker:
    """The broker stops; the test has one of its own."""

    @pytest.fixture
    def deployment(
        self, tmp_path: Path, mortal_kafka: RealKafka, trained_folder: Path
    ) -> Iterator[LocalDeployment]:
        shutil.copytree(trained_folder, tmp_path, dirs_exist_ok=True)
        with LocalDeployment(tmp_path, mortal_kafka.bootstrap) as deployment:
            yield deployment

    def test_a_broker_that_comes_back_finds_the_workers_serving(
        self, deployment: LocalDeployment, images: LabelledImages, mortal_kafka: RealKafka
    ) -> None:
        """The broker is away for seconds under load: workers go on, or end soon and say so."""
        ended: list[int] = []

        def faults(deployment: LocalDeployment) -> None:
            wait_until_serving(deployment)
            mortal_kafka.stop()
            time.sleep(OUTAGE_S)  # the outage is what is tried
            mortal_kafka.start()
            ended.extend(supervise_until_serving(deployment, N_AFTER))

        verdict = ordeal(deployment, images.images, per_s=PER_S, n_workers=2, faults=faults)

        assert verdict.problems == []
        assert 0 not in ended
        assert verdict.account.duplicates <= 2 * IN_FLIGHT

    def test_sigterm_ends_a_worker_whose_broker_is_away(
        self, deployment: LocalDeployment, images: LabelledImages, mortal_kafka: RealKafka
    ) -> None:
        """Without a broker a worker ends within a minute, and what it had in hand comes again."""
        seconds: list[float] = []

        def faults(deployment: LocalDeployment) -> None:
            wait_until_serving(deployment)
            mortal_kafka.stop()
            begin = time.monotonic()
            deployment.workers[0].terminate(END_S)
            seconds.append(time.monotonic() - begin)
            mortal_kafka.start()
            deployment.workers[0].start().wait_ready(END_S)

        verdict = ordeal(deployment, images.images, per_s=PER_S, n_workers=1, faults=faults)

        assert verdict.problems == []
        assert seconds[0] < END_S


class TestRefusals:
    """The broker takes no prediction."""

    def test_a_broker_that_refuses_predictions_for_a_while_loses_none(
        self, served: LocalDeployment, images: LabelledImages
    ) -> None:
        """Where nothing can be published the worker ends and says so; later all is answered."""
        ended: list[int] = []

        def faults(deployment: LocalDeployment) -> None:
            predictions = f"{deployment.topic}-predictions"
            wait_until_serving(deployment)
            limit_messages(deployment.kafka, predictions, 10)
            deployment.workers[0].wait(END_S)
            ended.extend(keep_alive(deployment))
            limit_messages(deployment.kafka, predictions, 1_000_000)
            ended.extend(supervise_until_serving(deployment, N_AFTER))

        verdict = ordeal(served, images.images, per_s=PER_S, n_workers=1, faults=faults)

        assert verdict.problems == []
        assert ended
        assert 0 not in ended
        assert verdict.exit_codes == [0]
