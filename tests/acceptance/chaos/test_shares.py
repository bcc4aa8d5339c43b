"""How soon a worker that starts takes its share of the images."""

from __future__ import annotations

import time

import pytest

from worker.testing import LocalDeployment, wait_until

SOON_S = 10.0


@pytest.mark.alone
def test_a_second_worker_takes_its_half_within_ten_seconds(served: LocalDeployment) -> None:
    """Of eight partitions each of two workers has four, ten seconds after the second's start."""
    first = served.start_worker()
    wait_until("8 partitions", lambda: len(first.series("darkroom_lag")) == 8, SOON_S)
    begin = time.monotonic()
    shares = [first, served.start_worker()]
    wait_until(
        "4 partitions each",
        lambda: [len(worker.series("darkroom_lag")) for worker in shares] == [4, 4],
        SOON_S - (time.monotonic() - begin),
    )
