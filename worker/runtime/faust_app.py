"""Faust's app, made of parts: what each room adds to the worker."""

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import faust
import mode
from faust.utils.terminal import SpinnerHandler

from worker.errors import WorkerError
from worker.kafka.broker import Broker
from worker.kafka.connection import Connection
from worker.kafka.transport import POLL_RECORDS, Flow, Transport
from worker.part import Agent, Page, Part
from worker.runtime.health import Health
from worker.runtime.metrics import registry_of
from worker.runtime.pages import health_pages, metrics_page
from worker.runtime.preflight import check_logdir, check_port
from worker.runtime.settings import RuntimeSettings
from worker.runtime.watchdog import Watchdog, coordinator_problem, loop_problem, stop_problem

__all__ = ["WorkerApp"]

SESSION_TIMEOUT_S = 10.0
EMBEDDED_SESSION_TIMEOUT_S = 6.0
"""A rebalance takes about a session timeout on the embedded broker."""
HEARTBEAT_S = 1.0
"""How often a worker tells its group that it lives, and learns of a rebalance."""
COMMIT_INTERVAL_S = 0.3
"""Work that was done within it is delivered a second time after a kill."""
BLOCKED_S = 50.0
"""How long the event loop may not answer."""
COORDINATOR_S = 10.0
"""How long the group coordinator may be gone."""


class WorkerApp(faust.App):
    """A Faust app that finds its broker when it starts, runs parts, and is watched.

    Args:
        group: The consumer group.
        settings: Where the worker keeps its files, and how long it may take to stop.
        broker: Started before the app connects.
        flow: What is taken from Kafka at the moment.
        parts: What the worker is made of.
    """

    def __init__(
        self,
        group: str,
        settings: RuntimeSettings,
        *,
        broker: Broker,
        flow: Flow,
        parts: Sequence[Part],
    ) -> None:
        super().__init__(group, **_options(broker.connection))
        self._logdir = settings.logdir
        self._broker = broker
        self._flow = flow
        self._parts = parts
        watched = [part.watched for part in parts]
        self._watchdog = Watchdog(
            {
                loop_problem(self): BLOCKED_S,
                coordinator_problem(self): COORDINATOR_S,
                stop_problem(self): settings.stop_timeout_s,
                **dict(chain.from_iterable(checks.items() for checks in watched)),
            }
        )
        for agent in chain.from_iterable(part.agents for part in parts):
            self._add_agent(agent)
        for path, page in self._pages():
            self.page(path)(page)

    def _add_agent(self, agent: Agent) -> None:
        """Read a topic of bytes; Faust would drop messages that it cannot decode itself."""
        topic = self.topic(
            agent.topic,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
        )
        self.agent(topic, name=agent.name, supervisor_strategy=mode.CrashingSupervisor)(agent.body)

    def _pages(self) -> Iterator[tuple[str, Page]]:
        readiness = [self._group_problem, *chain.from_iterable(p.readiness for p in self._parts)]
        details = dict(chain.from_iterable(part.details.items() for part in self._parts))
        yield from health_pages(Health(self._watchdog, readiness, details)).items()
        collectors = chain.from_iterable(part.collectors for part in self._parts)
        yield "/metrics", metrics_page(registry_of(collectors))
        for part in self._parts:
            yield from part.pages.items()

    def _new_transport(self) -> Transport:
        return Transport(self._broker.connection.urls, self, flow=self._flow)

    def _group_problem(self) -> str | None:
        """Say why the worker has no share of the partitions yet, be it an empty one."""
        is_in_group = self.consumer_generation_id > 0 and not self.rebalancing
        return None if is_in_group else "the worker is not in its consumer group yet"

    async def on_first_start(self) -> None:
        """Have a broker with topics; Faust's own first start makes folders that nothing uses."""
        self._watchdog.start()
        try:
            await asyncio.to_thread(self._prepare)
        except WorkerError as error:
            await asyncio.to_thread(self._broker.stop)  # its threads would keep the process
            raise SystemExit(f"Error: {error}") from error  # one message, no traceback
        self.transport.url = self._broker.connection.urls  # of the embedded one, known only now

    def _prepare(self) -> None:
        check_logdir(self._logdir)
        if self.conf.web_enabled:
            check_port(str(self.conf.web_bind), self.conf.web_port)
        self._broker.start()
        for check in chain.from_iterable(part.start_checks for part in self._parts):
            check()

    async def on_started_init_extra_services(self) -> None:
        """Start the parts' services."""
        await super().on_started_init_extra_services()
        without_spinner(logging.getLogger())
        for service in chain.from_iterable(part.services for part in self._parts):
            await self.add_runtime_dependency(service)

    async def on_stop(self) -> None:
        """Finish and commit what is in hand."""
        for begin in chain.from_iterable(part.on_stop for part in self._parts):
            begin()
        await super().on_stop()

    async def on_shutdown(self) -> None:
        """Stop the embedded broker when everything that talks to it has stopped."""
        await super().on_shutdown()
        await asyncio.to_thread(self._broker.stop)  # the watchdog goes on: a thread may still hang
        gc.freeze()  # the process ends now: a last search for garbage takes it a second or two


def _options(connection: Connection) -> dict[str, Any]:
    """Return the options of Faust's app; docs/decisions has the reasons of those that surprise."""
    is_embedded = connection.is_embedded
    return {
        **connection.for_faust(),
        "broker_client_id": f"{socket.gethostname()}-{os.getpid()}",
        "broker_commit_interval": COMMIT_INTERVAL_S,
        "broker_heartbeat_interval": HEARTBEAT_S,
        "broker_max_poll_records": POLL_RECORDS,
        "broker_session_timeout": EMBEDDED_SESSION_TIMEOUT_S if is_embedded else SESSION_TIMEOUT_S,
        "consumer_auto_offset_reset": "earliest",
        "store": "memory://",
        "stream_wait_empty": True,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "worker_redirect_stdouts": False,
    }


def without_spinner(root: logging.Logger) -> None:
    """Take back what Faust's spinner does to the root logger.

    It turns at every record, so every logger makes its debug records: a tenth of the time of the
    thread that fetches images.
    """
    spinners = [handler for handler in root.handlers if isinstance(handler, SpinnerHandler)]
    for handler in spinners:
        root.removeHandler(handler)
    if spinners:
        root.setLevel(min(handler.level for handler in root.handlers))
