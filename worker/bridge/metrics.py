"""The bridge's figures among the worker's metrics, by route."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.registry import Collector

from worker.bridge.flow.stats import Stats
from worker.runtime.metrics import gauge, total

__all__ = ["bridge_collectors"]

TOTALS: Mapping[str, tuple[str, Callable[[Stats], float]]] = {
    "mirrored": ("Messages that the other side confirmed.", lambda stats: stats.mirrored),
    "dead_letters": ("Messages that became dead letters.", lambda stats: stats.dead_letters),
    "held_back": ("Times that a message was left in Pub/Sub.", lambda stats: stats.held_back),
    "skipped": ("Messages filtered out, or that came before.", lambda stats: stats.skipped),
    "failures": ("Requests that failed and were tried again.", lambda stats: stats.failures),
}
GAUGES: Mapping[str, tuple[str, Callable[[Stats], float]]] = {
    "outstanding": ("Messages taken and not confirmed yet.", lambda stats: stats.outstanding),
    "lag": ("Messages that are still in Kafka.", lambda stats: stats.lag),
    "waiting": (
        "1 while the route waits.",
        lambda stats: float(bool(stats.waiting_for)),
    ),
}


def bridge_collectors(read: Callable[[], Mapping[str, Stats]]) -> Iterator[Collector]:
    """Yield a metric for each figure, with the label `route`, read at each request."""
    for figures, metric in ((TOTALS, total), (GAUGES, gauge)):
        for name, (meaning, figure) in figures.items():

            def by_route(figure: Callable[[Stats], float] = figure) -> dict[str, float]:
                return {route: figure(stats) for route, stats in read().items()}

            yield metric(f"bridge_{name}", meaning, "route", by_route)
