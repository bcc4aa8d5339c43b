"""A model takes another's place under load, and nobody waits; `scripts/bench swap` in short."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.testing import LabelledImages, LocalDeployment, best_of
from worker.testing.chaos.swaps import Swaps, swap_under_load, unoptimised_scores

pytestmark = pytest.mark.alone

JOBS = ("first", "second")
N_SWAPS = 8
PER_S = 1000.0
STEADY_S = 3.0
MOST_DELAY_MS = 250.0


@pytest.fixture(scope="module")
def swaps(
    tmp_path_factory: pytest.TempPathFactory,
    kafka_host: str,
    trained_folder: Path,
    images: LabelledImages,
) -> Iterator[Swaps]:
    folder = tmp_path_factory.mktemp("swaps")
    shutil.copytree(trained_folder, folder, dirs_exist_ok=True)
    with LocalDeployment(folder, kafka_host) as deployment:
        checkpoints = {job: str(deployment.logdir / best_of(job)) for job in JOBS}
        scores = {job: unoptimised_scores(images.images, path) for job, path in checkpoints.items()}
        yield swap_under_load(
            deployment, images.images, scores, count=N_SWAPS, per_s=PER_S, steady_s=STEADY_S
        )


def test_a_swap_loses_no_image_and_doubles_none(swaps: Swaps) -> None:
    """Each image that was sent while models were swapped has exactly one answer."""
    assert len(swaps.account.images) == swaps.n_sent
    assert swaps.account.problems([]) == []
    assert swaps.account.answered_twice() == []


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
