"""Messages under way keep their leases, and no other leases are extended."""

from __future__ import annotations

import time

import pytest

from worker.bridge.pubsub.leases import Leases

LEASE_S = 30


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_each_lease_is_extended_before_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over five minutes, no message under way waits longer than half a lease for its extension."""
    clock, leases = Clock(monkeypatch), Leases(LEASE_S)
    extended: dict[str, float] = {}
    for step in range(600):
        clock.now += 0.5
        if step < 5:
            leases.begin([f"{step}-{number}" for number in range(3)])
            extended |= dict.fromkeys(leases.all()[-3:], clock.now)
        extended |= dict.fromkeys(leases.renew(), clock.now)
        assert min(extended.values()) > clock.now - LEASE_S / 2
    assert len(extended) == len(leases) == 15


def test_what_has_ended_is_not_extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only messages still under way are due; ending one twice does nothing."""
    clock, leases = Clock(monkeypatch), Leases(LEASE_S)
    leases.begin(["a", "b", "c"])
    leases.end(["b"])
    leases.end(["b"])
    clock.now += LEASE_S / 2
    assert leases.renew() == ["a", "c"]
    assert leases.renew() == []
