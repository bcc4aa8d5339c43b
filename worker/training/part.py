"""Training, as a part of the worker."""

from dataclasses import dataclass

from worker.base import Base
from worker.kafka.publisher import Outgoing
from worker.messages.commands import Command
from worker.part import Part
from worker.runtime.metrics import gauge
from worker.training.jobs.ledger import Ledger
from worker.training.runner import Runner
from worker.training.settings import TrainingSettings

__all__ = ["Training", "training_part"]

SHARE_OF_STOP = 0.6
"""Share of the time in which a worker stops; the rest is for what stops after the training."""


@dataclass(frozen=True)
class Training:
    """The part, and what commands do with its jobs."""

    part: Part
    ledger: Ledger
    runner: Runner


def training_part(settings: TrainingSettings, base: Base, stop_timeout_s: float) -> Training:
    """Return what works through the jobs of the log directory."""
    ledger = Ledger(base.logdir)

    async def send_command(command: Command) -> None:
        key = command.id.encode()
        await base.publisher.send(Outgoing(base.topics.control, key, command.to_json()))

    runner = Runner(
        ledger,
        base.events,
        send_command=send_command,
        datadir=settings.datadir,
        threads=settings.threads,
        hang_s=settings.hang_s,
        stop_timeout_s=stop_timeout_s * SHARE_OF_STOP,
    )
    part = Part(
        services=[runner],
        on_stop=[runner.begin_stop],
        collectors=[gauge("jobs", "Jobs in the ledger.", "state", ledger.count_by_state)],
    )
    return Training(part, ledger, runner)
