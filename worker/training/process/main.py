"""The main function of a job's process.

The process never outlives its worker, takes its orders from nobody else (a Ctrl-C in the terminal
reaches the worker, which then asks the process to stop), and yields to serving in every respect.
"""

import socket

from worker.training.process.channel import Channel
from worker.training.process.messages import Outcome, Task
from worker.training.process.setup import set_up
from worker.training.process.work import failure, perform

__all__ = ["main"]


def main(end: socket.socket, task: Task) -> None:
    """Do a task and send its outcome.

    Args:
        end: This process's end of the connection to the worker.
        task: What to do.
    """
    set_up(task.threads_per_process)
    channel = Channel(end)
    lock = channel.receive_lock()
    if task.job.processes > 1:
        outcome = _perform_together(task, channel, lock)
    else:
        channel.listen()
        outcome = perform(task, channel)
    channel.send(outcome)
    channel.close_sending()


def _perform_together(task: Task, channel: Channel, lock: int) -> Outcome:
    try:
        from worker.training.process.ranks import train_together  # noqa: PLC0415 - imports torch

        return train_together(task, channel, lock)
    except BaseException as error:
        return failure(error)
