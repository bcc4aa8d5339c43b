"""No image is lost, doubled without need, or out of order, whatever is done to workers and broker.

The shorter form of `scripts/bench chaos`: on a real Kafka, counted by id in the topics afterwards.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.chaos.limits import limit_messages
from worker.testing.brokers import RealKafka
from worker.testing.chaos.image_load import ImageLoad, Pixels
from worker.testing.chaos.offset_watch import wait_until_answered
from worker.testing.chaos.ordeal import END_S, IN_FLIGHT, keep_alive, kills, ordeal
from worker.testing.deployment import LocalDeployment
from worker.testing.digits import write_digits
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import train_models
from worker.testing.waiting import wait_until

PER_S = 500.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with RealKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_digits(folder / "data", 1000, 200)
    train_models(folder)
    return folder


@pytest.fixture(scope="module")
def images(models: Path) -> Pixels:
    return LabelledImages.read(models / "data" / "test").images


@pytest.fixture
def deployment(tmp_path: Path, kafka: RealKafka, models: Path) -> Iterator[LocalDeployment]:
    shutil.copytree(models / "logs", tmp_path / "logs")
    with LocalDeployment(tmp_path, kafka.bootstrap) as deployment:
        yield deployment


@pytest.fixture
def mortal_kafka(tmp_path: Path) -> Iterator[RealKafka]:
    """A broker of the test's own, which it may stop."""
    with RealKafka(tmp_path / "broker") as kafka:
        yield kafka


@pytest.fixture
def on_mortal_kafka(
    tmp_path: Path, mortal_kafka: RealKafka, models: Path
) -> Iterator[LocalDeployment]:
    shutil.copytree(models / "logs", tmp_path / "logs")
    with LocalDeployment(tmp_path, mortal_kafka.bootstrap) as deployment:
        yield deployment


def test_kills_lose_nothing(deployment: LocalDeployment, images: Pixels) -> None:
    """Six times kill -9 of one of two workers: all is answered, little of it twice."""
    verdict = ordeal(
        deployment, images, per_s=PER_S, n_workers=2, faults=kills(6, (0.5, 5.0), seed=1)
    )

    assert verdict.problems == []
    assert verdict.exit_codes == [0, 0]
    assert verdict.account.duplicates <= 6 * IN_FLIGHT


def test_sigterm_under_load_gives_no_duplicates(
    deployment: LocalDeployment, images: Pixels
) -> None:
    """Workers are stopped and started under load: all is answered, and nothing twice."""
    codes = []

    def faults(deployment: LocalDeployment) -> None:
        for worker in [*deployment.workers, *deployment.workers]:
            time.sleep(1.0)
            codes.append(worker.terminate())
            worker.start().wait_ready()

    verdict = ordeal(deployment, images, per_s=PER_S, n_workers=2, faults=faults)

    assert {*codes, *verdict.exit_codes} == {0}
    assert verdict.problems == []
    assert verdict.account.answered_twice() == []


def test_ten_rebalances_lose_nothing(deployment: LocalDeployment, images: Pixels) -> None:
    """A third worker comes and goes five times: all is answered, nothing twice."""

    def faults(deployment: LocalDeployment) -> None:
        third = deployment.start_worker()
        for _ in range(4):
            third.terminate()
            third.start().wait_ready()
        third.terminate()

    verdict = ordeal(deployment, images, per_s=PER_S, n_workers=2, faults=faults)

    assert verdict.problems == []
    assert verdict.account.answered_twice() == []
    assert verdict.exit_codes == [0, 0]


def test_a_broker_that_comes_back_finds_the_workers_serving(
    on_mortal_kafka: LocalDeployment, images: Pixels, mortal_kafka: RealKafka
) -> None:
    """The broker is away for 10 s under load: workers go on, or end within a minute and say so."""
    ended: list[int] = []

    def faults(deployment: LocalDeployment) -> None:
        time.sleep(2.0)
        mortal_kafka.stop()
        time.sleep(10.0)
        mortal_kafka.start()
        deadline = time.monotonic() + 15.0
        while time.monotonic() < deadline:
            ended.extend(keep_alive(deployment))
            time.sleep(0.5)

    verdict = ordeal(on_mortal_kafka, images, per_s=PER_S, n_workers=2, faults=faults)

    assert verdict.problems == []
    assert 0 not in ended
    assert verdict.account.duplicates <= 2 * IN_FLIGHT


def test_a_broker_that_refuses_predictions_for_a_while_loses_none(
    deployment: LocalDeployment, images: Pixels
) -> None:
    """Where nothing can be published the worker ends and says so; later all is answered."""
    ended: list[int] = []

    def faults(deployment: LocalDeployment) -> None:
        (worker,) = deployment.workers
        wait_until("predictions", lambda: worker.metric("darkroom_predictions_total") > 0, 30.0)
        limit_messages(deployment.kafka, f"{deployment.topic}-predictions", 10)
        wait_until("end", lambda: ended.extend(keep_alive(deployment)) or bool(ended), END_S)
        limit_messages(deployment.kafka, f"{deployment.topic}-predictions", 1_000_000)
        deadline = time.monotonic() + 10.0
        while time.monotonic() < deadline:
            ended.extend(keep_alive(deployment))
            time.sleep(0.5)

    verdict = ordeal(deployment, images, per_s=PER_S, n_workers=1, faults=faults)

    assert verdict.problems == []
    assert 0 not in ended
    assert verdict.exit_codes == [0]


def test_a_second_worker_takes_its_half_within_ten_seconds(deployment: LocalDeployment) -> None:
    """Of eight partitions each of two workers has four, ten seconds after the second's start."""
    first = deployment.start_worker()
    wait_until("8 partitions", lambda: len(first.series("darkroom_lag")) == 8, 10.0)
    begin = time.monotonic()
    second = deployment.start_worker()
    shares = [first, second]
    wait_until(
        "4 partitions each",
        lambda: [len(worker.series("darkroom_lag")) for worker in shares] == [4, 4],
        10.0 - (time.monotonic() - begin),
    )


def test_sigterm_ends_a_worker_whose_broker_is_away(
    on_mortal_kafka: LocalDeployment, images: Pixels, mortal_kafka: RealKafka
) -> None:
    """Without a broker a worker still ends within a minute, and what it had in hand comes again."""
    seconds: list[float] = []

    def faults(deployment: LocalDeployment) -> None:
        time.sleep(2.0)
        mortal_kafka.stop()
        time.sleep(1.0)
        begin = time.monotonic()
        deployment.workers[0].terminate(END_S)
        seconds.append(time.monotonic() - begin)
        mortal_kafka.start()
        deployment.workers[0].start().wait_ready(END_S)

    verdict = ordeal(on_mortal_kafka, images, per_s=PER_S, n_workers=1, faults=faults)

    assert verdict.problems == []
    assert seconds[0] < END_S


def test_memory_stays_flat_while_images_come_too_fast(
    deployment: LocalDeployment, images: Pixels
) -> None:
    """With 100,000 images waiting, a warm worker grows by less than 150 MB, and shows the lag."""
    worker = deployment.start_worker()
    n_images = 100_000
    wait_until("model", lambda: worker.metric("darkroom_model") == 1, 30.0)
    with ImageLoad(deployment.kafka, deployment.topic, images, 30_000.0, limit=10_000) as warm_up:
        wait_until("a burst", lambda: warm_up.sent == 10_000, 30.0)
    assert wait_until_answered(deployment.kafka, deployment.topic, warm_up.sent, 60.0)
    before, peak, most_lag = worker.resident_mb(), 0.0, 0.0
    with ImageLoad(deployment.kafka, deployment.topic, images, 30_000.0, limit=n_images) as load:
        while load.sent < n_images:
            time.sleep(0.2)
            peak, most_lag = (
                max(peak, worker.resident_mb()),
                max(most_lag, worker.metric("darkroom_lag")),
            )
    total = n_images + warm_up.sent

    assert wait_until_answered(deployment.kafka, deployment.topic, total, 120.0)
    assert most_lag > 1000
    assert max(peak, worker.resident_mb()) - before < 150
    wait_until("lag of 0", lambda: worker.metric("darkroom_lag") == 0, 5.0)
