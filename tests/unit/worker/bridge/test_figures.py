"""A route's work can be read in its figures and in the worker's metrics."""

from __future__ import annotations

import time

import pytest
from prometheus_client import generate_latest

from worker.bridge.flow.stats import PROBLEM_S, Stats
from worker.bridge.messages.filter import Filter
from worker.bridge.metrics import bridge_collectors
from worker.runtime.metrics import registry_of

QUIET_S = 3.0


def test_each_route_is_among_the_metrics() -> None:
    """Counters and gauges have the route as their label, and its current values."""
    stats = Stats(QUIET_S)
    metrics = registry_of(bridge_collectors(lambda: {"images -> topic": stats}))
    stats.record_progress(7)
    stats.lag = 42
    stats.record_failure("UNAVAILABLE")
    text = generate_latest(metrics).decode()
    for line in ("mirrored_total", "failures_total", "lag", "waiting"):
        assert f'darkroom_bridge_{line}{{route="images -> topic"}}' in text
    assert 'darkroom_bridge_mirrored_total{route="images -> topic"} 7.0' in text
    assert 'darkroom_bridge_lag{route="images -> topic"} 42.0' in text
    assert 'darkroom_bridge_waiting{route="images -> topic"} 1.0' in text


def test_trouble_passes_when_it_is_not_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle route does not count as stalled because of an old problem."""
    stats = Stats(QUIET_S)
    stats.record_failure("UNAVAILABLE")
    assert stats.waiting_for == "UNAVAILABLE"
    later = time.monotonic() + PROBLEM_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert stats.waiting_for == ""
    assert stats.stalled_s() == 0


def test_work_that_nobody_confirms_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A route waits when nobody confirms its messages, even if no request has failed."""
    stats = Stats(QUIET_S, outstanding=1)
    assert stats.waiting_for == ""
    later = time.monotonic() + QUIET_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "confirmed nothing for 4 s" in stats.waiting_for
    stats.record_progress(1)
    assert stats.waiting_for == ""


@pytest.mark.parametrize(
    ("marks", "is_stopped"),
    [
        ({"site": "berlin"}, False),
        ({"site": "berlin", "darkroom.hops": "kafka/a/x"}, False),
        ({"site": "berlin", "darkroom.hops": "kafka/a/x,pubsub/t"}, True),
        ({"site": "paris"}, True),
        ({}, True),
    ],
)
def test_a_filter_stops_what_has_no_business_there(marks: dict[str, str], is_stopped: bool) -> None:
    """A message without the route's headers, or on its way back to where it was, is excluded."""
    assert Filter({"site": "berlin"}, "pubsub/t").excludes(marks) is is_stopped
    coded = {name: value.encode() for name, value in marks.items()}
    assert Filter({"site": b"berlin"}, "pubsub/t").excludes(coded) is is_stopped
