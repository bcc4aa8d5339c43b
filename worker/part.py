"""What one room adds to the worker; the app is made of parts and knows no room."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mode
from faust.web import Request, Response, View
from prometheus_client.registry import Collector

__all__ = ["Agent", "Check", "Page", "Part"]

Page = Callable[[View, Request], Awaitable[Response]]
Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


@dataclass(frozen=True)
class Agent:
    """A Faust agent: a topic of raw bytes, and the body that takes its stream.

    An error that leaves the body ends the worker, and what was not acknowledged comes again.
    """

    name: str
    topic: str
    body: Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One room's share of the worker.

    Attributes:
        services: Started in this order when the worker has its partitions, stopped in reverse.
        agents: What reads the topics in the worker group.
        pages: Pages of the web server by path.
        start_checks: Called in a thread before anything starts; a WorkerError ends the worker.
        watched: Checks for the watchdog, each with the seconds for which it may fail on end.
        readiness: Checks for `/health/ready`.
        details: What `/health` shows besides, by name.
        collectors: Metrics.
        on_stop: Called first of all when the worker stops.
    """

    services: Sequence[mode.ServiceT] = ()
    agents: Sequence[Agent] = ()
    pages: Mapping[str, Page] = field(default_factory=dict)
    start_checks: Sequence[Callable[[], object]] = ()
    watched: Mapping[Check, float] = field(default_factory=dict)
    readiness: Sequence[Check] = ()
    details: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    collectors: Sequence[Collector] = ()
    on_stop: Sequence[Callable[[], None]] = ()
