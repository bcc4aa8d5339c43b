"""The command line: one file per group of commands, put together here."""

from trainer.cli.cross_validate import cross_validate
from trainer.cli.data import unpack
from trainer.cli.evaluate import evaluate, predict
from trainer.cli.export import export
from trainer.cli.find import find_batch_size, find_lr
from trainer.cli.group import main
from trainer.cli.show import inspect, params
from trainer.cli.train import train

for command in (
    train,
    cross_validate,
    find_lr,
    find_batch_size,
    evaluate,
    predict,
    export,
    unpack,
    params,
    inspect,
):
    main.add_command(command)

__all__ = ["main"]
