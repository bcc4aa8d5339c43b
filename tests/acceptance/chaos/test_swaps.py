"""A model takes another's place under load, and nobody waits; `scripts/bench swap` in short."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.chaos.models import best_of, read_images, train_models
from tests.acceptance.chaos.swaps import Swaps, plain_scores, swap_under_load
from tests.brokers import real_kafka
from tests.deployment import Deployment

N_SWAPS = 8
PER_S = 1000.0
MOST_DELAY_MS = 250.0


@pytest.fixture(scope="module")
def swaps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swaps]:
    folder: Path = tmp_path_factory.mktemp("swaps")
    logdir = train_models(folder / "models", ("first", "second"))
    images = read_images(folder / "models")
    scores = {job: plain_scores(images, str(logdir / best_of(job))) for job in ("first", "second")}
    shutil.copytree(logdir, folder / "logs")
    with (
        real_kafka(folder) as kafka,
        Deployment(folder, kafka.bootstrap) as deployment,
    ):
        yield swap_under_load(deployment, images, scores, N_SWAPS, PER_S)


def test_a_swap_loses_no_image_and_doubles_none(swaps: Swaps) -> None:
    """Each image that was sent while models were swapped has exactly one answer."""
    assert len(swaps.account.images) == swaps.n_sent
    assert swaps.account.problems([]) == []
    assert swaps.account.twice() == []


def test_a_swap_delays_no_image(swaps: Swaps) -> None:
    """While models are swapped predictions come as steadily as before, but for 250 ms."""
    assert swaps.delay_ms <= MOST_DELAY_MS


def test_a_prediction_names_the_model_that_made_it(swaps: Swaps) -> None:
    """The confidence is that of the named model in float32, within 0.02."""
    assert swaps.wrong_names == 0


def test_models_follow_each_other_in_the_order_of_the_swaps(swaps: Swaps) -> None:
    """In no partition a model answers after a later one, and the last one has the last word."""
    assert swaps.out_of_order() == {}
    assert {order[-1] for order in swaps.order.values()} == {N_SWAPS}
    assert len({number for order in swaps.order.values() for number in order}) == N_SWAPS + 1
