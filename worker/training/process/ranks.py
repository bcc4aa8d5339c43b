"""A training by several processes: torch's elastic launcher starts them, one for each rank.

The job's process is their launcher. To its worker it looks like a process that trains alone: it
sends the reports of rank 0, passes the request to stop on to every rank, and sends one outcome.
No rank outlives it, and when one rank fails or dies, the others end too; the worker then starts
the job again.
"""

import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch.distributed.elastic.agent.server.api import WorkerGroup, WorkerSpec
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException

import trainer
from worker.training.jobs.processes import check_processes
from worker.training.process.channel import Channel
from worker.training.process.messages import Outcome, Task
from worker.training.process.rank_relay import RankRelay
from worker.training.process.rendezvous import LocalRendezvous
from worker.training.process.setup import die_with_parent
from worker.training.process.work import perform

__all__ = ["train_together"]

MONITOR_S = 0.1
SIGNALS = "SIGHUP"  # the agent would handle SIGTERM and SIGINT, which the process has to ignore
TORCH_LOGGERS = ("torch.distributed.elastic", "torch.multiprocessing")
NETWORK_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


def train_together(task: Task, channel: Channel, lock: int) -> Outcome:
    """Train with as many processes as the job says.

    Args:
        task: A training by at least two processes.
        channel: The connection to the worker; nobody listens to it yet.
        lock: The descriptor of the job's lock, which every rank holds too.
    """
    params = trainer.Params.model_validate(task.job.params)  # each rank checks them as a whole
    if params.device.startswith("cuda"):  # fewer cores than where it was accepted only take longer
        check_processes(task.job.processes, params)
    relay = RankRelay(channel, lock, task.job.processes)
    channel.listen(on_stop=relay.stop)
    _prepare_environment()
    rank_task = replace(task, job=task.job.replaced(processes=1), threads=task.threads_per_process)
    spec = WorkerSpec(
        role="training",
        local_world_size=task.job.processes,
        rdzv_handler=LocalRendezvous(task.job.name),
        entrypoint=rank_main,
        args=(relay.rank_ends, rank_task),
        max_restarts=0,  # the worker counts the crashes and starts the job again
        monitor_interval=MONITOR_S,
    )
    agent = RankAgent(spec, relay.start)
    try:
        agent.run()
    except (OSError, SignalException) as error:
        return Outcome(status="died", reason=f"its processes could not be run: {error!r}")
    finally:
        relay.close()
    return relay.outcome(agent.exitcodes)


def rank_main(ends: tuple[socket.socket, ...], task: Task) -> None:
    """Train as one rank, exactly as a process does that trains alone.

    Args:
        ends: Of each rank its end of the connection to the launcher.
        task: The job as one of one process, with this rank's threads.
    """
    die_with_parent()
    own = ends[int(os.environ["LOCAL_RANK"])]
    for end in ends:
        if end is not own:
            end.close()  # else its rank's death would not be noticed
    channel = Channel(own)
    channel.receive_lock()
    channel.listen()
    outcome = perform(task, channel)
    channel.send(outcome)
    channel.close_sending()
    if outcome.status in {"failed", "died"}:
        sys.exit(1)


class RankAgent(LocalElasticAgent):
    """torch's launcher, which also says when the ranks are started and how each has ended."""

    def __init__(self, spec: WorkerSpec, on_start: Callable[[], None]) -> None:
        super().__init__(spec, DefaultLogsSpecs(os.devnull))
        self._on_start = on_start
        self._processes: Mapping[int, multiprocessing.process.BaseProcess] = {}

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        pids: dict[int, int] = super()._start_workers(worker_group)
        # torch's own list: `multiprocessing.active_children` leaves out a rank that is dead already
        processes = self._pcontext._pc.processes  # type: ignore[union-attr]  # noqa: SLF001
        self._processes = dict(enumerate(processes))
        self._on_start()
        return pids

    @property
    def exitcodes(self) -> Mapping[int, int | None]:
        """How each rank has ended; negative numbers are signals."""
        return {rank: process.exitcode for rank, process in self._processes.items()}


def _prepare_environment() -> None:
    """Keep the ranks' traffic on this machine; leave it to the worker to log what happens."""
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = SIGNALS
    names = {name for _, name in socket.if_nameindex()}
    for loopback in ("lo", "lo0"):
        if loopback in names:
            for variable in NETWORK_VARIABLES:
                os.environ.setdefault(variable, loopback)
    for name in TORCH_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
