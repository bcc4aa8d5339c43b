"""How many processes a training may have is decided before anything is accepted."""

from __future__ import annotations

import pytest

import trainer
from worker.training.jobs import processes
from worker.training.jobs.processes import TooManyProcesses, check_processes

ON_CPU = trainer.Params.validate_all({"device": "cpu"})


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_cores", lambda: 4)
    monkeypatch.setattr(processes, "_gpus", lambda: 2)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_each_process_may_have_a_core(count: int) -> None:
    """As many processes as cores are fine."""
    check_processes(count, ON_CPU)


def test_more_processes_than_cores_are_refused() -> None:
    """The message says how many are possible."""
    with pytest.raises(TooManyProcesses, match=r"processes: 5 is too many.*at most 4"):
        check_processes(5, ON_CPU)


def test_each_process_needs_a_gpu_of_its_own() -> None:
    """Two processes cannot share a GPU."""
    on_gpu = ON_CPU.model_copy(update={"device": "cuda"})
    check_processes(2, on_gpu)

    with pytest.raises(TooManyProcesses, match="needs a GPU of its own and this machine has 2"):
        check_processes(3, on_gpu)


def test_one_process_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what every job had before."""
    monkeypatch.setattr(processes, "_cores", lambda: 0)

    check_processes(1, ON_CPU)


def test_accumulated_gradients_are_refused() -> None:
    """The processes share each batch already; the trainer refuses it too, but only in the job."""
    params = ON_CPU.model_copy(update={"gradient_accumulation": 4})
    check_processes(1, params)

    with pytest.raises(TooManyProcesses, match="gradient_accumulation: 4"):
        check_processes(2, params)
