"""What the worker measures, in Prometheus's form.

Counted once a batch and not once an image: a call for each costs as much as decoding it.
"""

import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

Labelled = Mapping[str, float]
"""A value by the value of one label."""
ReadKind = type[GaugeMetricFamily] | type[CounterMetricFamily]


class Metrics:
    """One worker's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._images = self._counter("images", "Images decoded.")
        self._predictions = self._counter("predictions", "Predictions that Kafka confirmed.")
        self._dead_letters = Counter(
            "darkroom_dead_letters",
            "Dead letters that Kafka confirmed.",
            ["reason"],
            registry=self._registry,
        )
        self._batch_sizes = Histogram(
            "darkroom_batch_images",
            "Images in a batch.",
            buckets=BATCH_SIZES,
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "darkroom_stage_seconds",
            "Seconds that a batch took in a stage.",
            ["stage"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._latencies = BulkHistogram(
            "darkroom_latency_seconds",
            "From an image's timestamp to its prediction.",
            LATENCIES,
        )
        self._registry.register(self._latencies)

    def _counter(self, name: str, meaning: str) -> Counter:
        return Counter(f"darkroom_{name}", meaning, registry=self._registry)

    def gauge(self, name: str, meaning: str, label: str, read: Callable[[], Labelled]) -> None:
        """Add a value that is read when somebody asks."""
        self._add_read(GaugeMetricFamily, name, meaning, label, read)

    def total(self, name: str, meaning: str, label: str, read: Callable[[], Labelled]) -> None:
        """Add a count, which only grows, that is read when somebody asks."""
        self._add_read(CounterMetricFamily, name, meaning, label, read)

    def _add_read(
        self, kind: ReadKind, name: str, meaning: str, label: str, read: Callable[[], Labelled]
    ) -> None:
        self._registry.register(ReadMetric(kind, f"darkroom_{name}", meaning, label, read))

    def decoded(self, n_images: int) -> None:
        """Count a batch that was decoded."""
        self._images.inc(n_images)
        self._batch_sizes.observe(n_images)

    def took(self, stage: str, seconds: float) -> None:
        """Count the time of a batch in a stage: "decode", "classify" or "publish"."""
        self._stage_seconds.labels(stage).observe(seconds)

    def answered(self, latencies_s: Sequence[float], dead_letter_reasons: Iterable[str]) -> None:
        """Count a batch whose predictions and dead letters are confirmed."""
        self._predictions.inc(len(latencies_s))
        self._latencies.observe_all(latencies_s)
        for reason, count in Tally(dead_letter_reasons).items():
            self._dead_letters.labels(reason).inc(count)

    def text(self) -> bytes:
        """Return all of it as Prometheus reads it."""
        return generate_latest(self._registry)


class BulkHistogram(Collector):
    """A histogram that takes many values at once."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        self._name, self._meaning, self._bounds = name, meaning, bounds
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe_all(self, values: Sequence[float]) -> None:
        """Count each value in the first bucket whose bound it does not exceed."""
        places = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(places, minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(np.sum(values))

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as it stands, buckets cumulative."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts).tolist(), self._sum
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(bounds, cumulative, strict=True))
        yield HistogramMetricFamily(self._name, self._meaning, buckets=buckets, sum_value=total)


class ReadMetric(Collector):
    """A gauge or a counter, by one label, whose values are read when somebody asks."""

    def __init__(
        self, kind: ReadKind, name: str, meaning: str, label: str, read: Callable[[], Labelled]
    ) -> None:
        self._kind = kind
        self._name, self._meaning, self._label, self._read = name, meaning, label, read

    def collect(self) -> Iterator[Metric]:
        """Yield the values of this moment."""
        family = self._kind(self._name, self._meaning, labels=[self._label])
        for label, value in self._read().items():
            family.add_metric([label], value)
        yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the name alone: there may be nothing to read before the worker has started."""
        yield self._kind(self._name, self._meaning, labels=[self._label])
