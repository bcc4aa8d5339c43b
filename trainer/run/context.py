"""The context of runs: params, processes, folder, observers, and how a run is stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trainer.data.decoding_pool import OnProgress
from trainer.machine.distributed import Group, process_group
from trainer.machine.signals import StopRequested, stop_requests
from trainer.observers import Observer
from trainer.params.params import Params

__all__ = ["RunContext", "run_context"]

DataT = TypeVar("DataT")


@dataclass(frozen=True)
class RunContext:
    """What a run needs besides data, model and steps.

    Attributes:
        group: The processes that train together.
        logdir: The folder of the run.
        observers: Observers besides TensorBoard and the report.
        should_stop: Asked before every batch.
        resume: Whether to go on from the newest good checkpoint, if there is one.
    """

    params: Params
    group: Group
    logdir: Path
    observers: Sequence[Observer]
    should_stop: Callable[[], bool]
    resume: bool

    def open_together(self, open_data: Callable[[OnProgress], DataT]) -> DataT | None:
        """Open the data in all processes; return None in all when one is asked to stop meanwhile.

        The first process opens it before the others, which then find the memory map. When there is
        no data, no run follows, and the observers are closed.
        """
        watching = self.observers if self.group.is_first else ()

        def report(done: int, total: int) -> None:
            if self.should_stop():
                raise StopRequested
            for observer in watching:
                observer.on_decoding(done, total)

        data = None
        with ExitStack() as stack:
            for observer in self.observers:
                stack.enter_context(closing(observer))
            with self.group.first_rank_first(), suppress(StopRequested):
                data = open_data(report)
            if self.group.any(data is None):
                return None
            stack.pop_all()
        return data


@contextmanager
def run_context(
    params: Params,
    logdir: Path,
    observers: Sequence[Observer],
    should_stop: Callable[[], bool] | None,
    *,
    resume: bool,
) -> Iterator[RunContext]:
    """Join the group of processes, and catch signals unless the caller decides when to stop."""
    with process_group(params.device) as group, stop_requests(should_stop) as stop:
        yield RunContext(params, group, logdir, observers, stop, resume)
