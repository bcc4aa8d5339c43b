"""Metrics in Prometheus's form: what every room's own metrics are made of.

Values are counted once per batch and not once per image: a call for each costs as much as decoding
an image.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

__all__ = ["BulkHistogram", "gauge", "registry_of", "total"]

Labelled = Mapping[str, float]
"""Values by the value of one label."""
ReadKind = type[GaugeMetricFamily] | type[CounterMetricFamily]


def gauge(name: str, meaning: str, label: str, read: Callable[[], Labelled]) -> Collector:
    """Return the metric `darkroom_<name>`, whose values are read when somebody asks."""
    return ReadMetric(GaugeMetricFamily, name, meaning, label, read)


def total(name: str, meaning: str, label: str, read: Callable[[], Labelled]) -> Collector:
    """Return a count, which only grows, whose values are read when somebody asks."""
    return ReadMetric(CounterMetricFamily, name, meaning, label, read)


def registry_of(collectors: Iterable[Collector]) -> CollectorRegistry:
    """Return a registry of its own for one worker's metrics."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


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
        self._name, self._meaning, self._label, self._read = (
            f"darkroom_{name}",
            meaning,
            label,
            read,
        )

    def collect(self) -> Iterator[Metric]:
        """Yield the values of this moment."""
        family = self._kind(self._name, self._meaning, labels=[self._label])
        for label, value in self._read().items():
            family.add_metric([label], value)
        yield family

    def describe(self) -> Iterator[Metric]:
        """Yield the name alone: there may be nothing to read before the worker has started."""
        yield self._kind(self._name, self._meaning, labels=[self._label])
