"""`python -m trainer find-lr` and `python -m trainer find-batch-size`.

Standard output has only the option that `python -m trainer train` takes; the rest goes to standard
error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.group import data_option, params_options
from trainer.errors import TrainerError
from trainer.params.files import read_params

if TYPE_CHECKING:
    from trainer.tuning.batch_size import BatchSizes
    from trainer.tuning.learning_rate import LearningRates


__all__ = ["find_batch_size", "find_lr"]


@click.command("find-lr", short_help="Suggest a learning rate.")
@data_option
@params_options
@click.option("--from", "lowest", default=1e-7, show_default=True, help="The first rate to try.")
@click.option("--to", "highest", default=10.0, show_default=True, help="The last rate to try.")
@click.option("--steps", default=100, show_default=True, help="Number of steps, one per rate.")
@click.option(
    "--chart", type=click.Path(dir_okay=False, path_type=Path),
    help="An HTML file to write, with a chart of the loss over the rate.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the curve as one JSON object.")
def find_lr(
    *,
    datadir: Path,
    file: Path | None,
    settings: tuple[str, ...],
    lowest: float,
    highest: float,
    steps: int,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Suggest a learning rate: the one at which the loss falls fastest while the rate grows.

    A new model takes one step with each rate (Smith's range test), with the same --params and --set
    as for `train`. Nothing is written but the chart, if you ask for one.

    \b
    Examples:
      python -m trainer find-lr --set batch_size=128
      python -m trainer train $(python -m trainer find-lr)
    """  # noqa: D301 - click needs the control character
    given, _ = read_params(file, settings)
    from trainer.tuning.learning_rate import find_learning_rate  # noqa: PLC0415 - importing torch takes seconds

    found = find_learning_rate(given, datadir, lowest=lowest, highest=highest, steps=steps)
    if chart is not None:
        _write_chart(found, chart)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    ends = {
        "highest": "all rates were tried",
        "diverged": f"the loss diverged at {found.rates[-1]:.3g}",
    }
    click.echo(f"{len(found.rates)} rates from {found.rates[0]:.3g}; {ends[found.ended]}", err=True)
    click.echo(f"--set learning_rate={found.suggestion:g}")


def _write_chart(found: LearningRates, path: Path) -> None:
    """Write the chart of the losses.

    Raises:
        TrainerError: The file cannot be written.
    """
    from trainer.tuning.learning_rate import curve_page  # noqa: PLC0415 - importing torch takes seconds

    try:
        path.write_text(curve_page(found), encoding="utf-8")
    except OSError as error:
        text = f"--chart {path} cannot be written ({error.strerror}); choose another file"
        raise TrainerError(text) from error


@click.command(
    "find-batch-size", short_help="Suggest a batch size that trains fast and fits into memory."
)
@data_option
@params_options
@click.option(
    "--memory-gb", type=click.FloatRange(min=0, min_open=True),
    help="How much memory the process may use, in 10^9 bytes; by default what it uses now and 80 % "
    "of what is available.",
)  # fmt: skip
@click.option(
    "--from", "first", default=16, show_default=True, help="The smallest size to suggest."
)
@click.option("--to", "largest", default=4096, show_default=True, help="The largest size to try.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as one JSON object.")
def find_batch_size(
    *,
    datadir: Path,
    file: Path | None,
    settings: tuple[str, ...],
    memory_gb: float | None,
    first: int,
    largest: int,
    as_json: bool,
) -> None:
    """Suggest a batch size: the smallest that trains about as fast as the fastest.

    A new model takes some real training steps with a batch that doubles as long as the next size is
    predicted to stay within the memory budget. Nothing is written.

    \b
    Examples:
      python -m trainer find-batch-size --memory-gb 4
      python -m trainer train $(python -m trainer find-batch-size)
    """  # noqa: D301 - click needs the control character
    given, _ = read_params(file, settings)
    from trainer.tuning.batch_size import find_batch_size as run  # noqa: PLC0415 - importing torch takes seconds

    found = run(given, datadir, memory_gb=memory_gb, first=first, largest=largest)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    click.echo("\n".join(_size_table(found)), err=True)
    click.echo(f"--set batch_size={found.suggestion}")


def _size_table(found: BatchSizes) -> Iterator[str]:
    yield "batch size  images/s  memory"
    for one in found.measured:
        yield f"{one.batch_size:10}  {one.images_per_s:8.0f}  {one.peak_bytes / 1e9:.2f} GB"
    budget, after = f"{found.budget_bytes / 1e9:.2f} GB", f"{found.next_bytes / 1e9:.2f} GB"
    yield {
        "memory": f"the next size would take {after}; the budget is {budget}",
        "images": f"there are too few training images for the next size; the budget is {budget}",
        "largest": f"the largest size that was asked for is measured; the budget is {budget}",
    }[found.ended]
