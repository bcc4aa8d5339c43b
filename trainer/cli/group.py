"""The command group: options that commands share, and exit codes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from trainer.errors import CheckpointError, DataError, DivergedError, ParamsError, TrainerError

__all__ = ["EXIT_CODES", "Group", "data_option", "logdir_option", "main", "params_options"]

EXIT_CODES: dict[type[TrainerError], int] = {
    ParamsError: 2,
    DataError: 3,
    CheckpointError: 4,
    DivergedError: 5,
}
CommandT = TypeVar("CommandT", bound=Callable[..., Any])

HELP = """Train, test and use image classifiers.

\b
A first run:
  python -m trainer unpack FOLDER_WITH_IDX_FILES data
  python -m trainer train --data data --logdir logs --set num_epochs=5
  python -m trainer evaluate logs/checkpoints/best.pt --data data
  python -m trainer predict logs/checkpoints/best.pt data/test/000000.png

\b
Exit codes: 0 done, 1 another error, 2 wrong command or params, 3 bad data,
4 bad checkpoint, 5 the training diverged, 130 stopped by Ctrl-C and saved,
143 stopped by SIGTERM and saved.
"""


class Group(click.Group):
    """A group of commands that turns the trainer's errors into messages and exit codes."""

    def invoke(self, context: click.Context) -> Any:
        """Run a command."""
        logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
        try:
            return super().invoke(context)
        except TrainerError as error:
            click.echo(f"Error: {error}", err=True)
            codes = (code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
            raise SystemExit(next(codes, 1)) from error


@click.group(cls=Group, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train, test and use image classifiers."""


def params_options(command: CommandT) -> CommandT:
    """Add `--params` and `--set` to a command."""
    file = click.option(
        "--params", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A TOML or JSON file with params; other params have their defaults.",
    )  # fmt: skip
    settings = click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE",
        help="Set one param, for example --set batch_size=128 or --set optim_kwargs.momentum=0.9; "
        "it overrides the file. This option may be repeated.",
    )  # fmt: skip
    return file(settings(command))


def data_option(command: CommandT) -> CommandT:
    """Add `--data` to a command."""
    return click.option(
        "--data", "datadir", default="data", show_default=True, type=click.Path(path_type=Path),
        help="The folder that holds train/info.csv, test/info.csv and the images.",
    )(command)  # fmt: skip


def logdir_option(text: str) -> Callable[[CommandT], CommandT]:
    """Return a decorator that adds `--logdir` to a command, with `--logs` as a hidden alias.

    Args:
        text: The help of the option.
    """

    def add(command: CommandT) -> CommandT:
        return click.option(
            "--logdir", "--logs", "logdir", cls=_LogdirOption, default="logs", show_default=True,
            type=click.Path(path_type=Path), help=text,
        )(command)  # fmt: skip

    return add


class _LogdirOption(click.Option):
    """`--logdir`, without its alias in the help."""

    def get_help_record(self, context: click.Context) -> tuple[str, str] | None:
        """Return names and help."""
        record = super().get_help_record(context)
        return record and (record[0].replace(", --logs", ""), record[1])
