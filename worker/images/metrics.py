"""How the images fare: counts, batch sizes, seconds by stage, latency."""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

from worker.runtime.metrics import BulkHistogram

__all__ = ["ServingMetrics"]

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)


class ServingMetrics:
    """What the pipeline of one worker counts."""

    def __init__(self) -> None:
        self._images = Counter("darkroom_images", "Images decoded.", registry=None)
        self._predictions = Counter(
            "darkroom_predictions", "Predictions that Kafka confirmed.", registry=None
        )
        self._dead_letters = Counter(
            "darkroom_dead_letters",
            "Dead letters that Kafka confirmed.",
            ["reason"],
            registry=None,
        )
        self._batch_sizes = Histogram(
            "darkroom_batch_images", "Images in a batch.", buckets=BATCH_SIZES, registry=None
        )
        self._stage_seconds = Histogram(
            "darkroom_stage_seconds",
            "Seconds that a batch took in a stage.",
            ["stage"],
            buckets=SECONDS,
            registry=None,
        )
        self._latencies = BulkHistogram(
            "darkroom_latency_seconds",
            "Seconds from an image's timestamp to its prediction.",
            LATENCIES,
        )

    @property
    def collectors(self) -> Sequence[Collector]:
        """The metrics, for a registry."""
        return (
            self._images,
            self._predictions,
            self._dead_letters,
            self._batch_sizes,
            self._stage_seconds,
            self._latencies,
        )

    def count_decoded(self, n_images: int) -> None:
        """Count a batch that was decoded."""
        self._images.inc(n_images)
        self._batch_sizes.observe(n_images)

    def count_stage(self, stage: str, seconds: float) -> None:
        """Count the time of a batch in a stage: "decode", "classify" or "publish"."""
        self._stage_seconds.labels(stage).observe(seconds)

    def count_answered(
        self, latencies_s: Sequence[float], dead_letter_reasons: Iterable[str]
    ) -> None:
        """Count a batch whose predictions and dead letters are confirmed."""
        self._predictions.inc(len(latencies_s))
        self._latencies.observe_all(latencies_s)
        for reason, count in Tally(dead_letter_reasons).items():
            self._dead_letters.labels(reason).inc(count)
