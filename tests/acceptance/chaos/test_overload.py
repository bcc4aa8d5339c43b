"""Images come faster than they can be classified."""

from __future__ import annotations

from worker.testing import (
    ImageLoad,
    LabelledImages,
    LocalDeployment,
    wait_until,
    wait_until_answered,
)

N_WARM_UP, N_WAITING = 10_000, 50_000
PER_S = 30_000.0
WAIT_S = 60.0


def test_memory_stays_flat_while_images_come_too_fast(
    served: LocalDeployment, images: LabelledImages
) -> None:
    """With 50,000 images waiting, a warm worker grows by less than 150 MB, and shows the lag."""
    worker = served.start_worker()
    wait_until("model", lambda: worker.metric("darkroom_model") == 1, WAIT_S)
    with ImageLoad(served.kafka, served.topic, images.images, PER_S, limit=N_WARM_UP) as warm_up:
        wait_until("a burst", lambda: warm_up.sent == N_WARM_UP, WAIT_S)
    assert wait_until_answered(served.kafka, served.topic, N_WARM_UP, WAIT_S)
    before, peaks, lags = worker.resident_mb(), [0.0], [0.0]
    load = ImageLoad(served.kafka, served.topic, images.images, PER_S, limit=N_WAITING)

    def is_sent() -> bool:
        peaks.append(worker.resident_mb())
        lags.append(worker.metric("darkroom_lag"))
        return load.sent == N_WAITING

    with load:
        wait_until("images", is_sent, WAIT_S, poll_s=0.2)
    assert wait_until_answered(served.kafka, served.topic, N_WAITING + N_WARM_UP, 2 * WAIT_S)

    assert max(lags) > 1000
    assert max(*peaks, worker.resident_mb()) - before < 150
    wait_until("lag of 0", lambda: worker.metric("darkroom_lag") == 0, 10.0)
