"""`python -m trainer find-lr` and `python -m trainer find-batch-size`.

Standard output holds only what can be pasted behind `python -m trainer train`; the rest is told on
standard error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.group import data_option, params_options
from trainer.params.files import read_params

if TYPE_CHECKING:
    from trainer.tuning.batch_size import BatchSizes
    from trainer.tuning.learning_rate import LearningRates


@click.command("find-lr")
@data_option
@params_options
@click.option("--from", "lowest", default=1e-7, show_default=True, help="The first rate tried.")
@click.option("--to", "highest", default=10.0, show_default=True, help="The last rate tried.")
@click.option("--steps", default=100, show_default=True, help="Batches, a rate each.")
@click.option(
    "--chart", type=click.Path(dir_okay=False, path_type=Path),
    help="An HTML file to draw the loss over the rate in.",
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
    """Suggest a learning rate: where the loss falls fastest while the rate grows.

    A new model takes a step with each rate (Smith's range test), as `train` with the same --params
    and --set would. No log folder is touched and no weights are kept.

    \b
    Examples:
      python -m trainer find-lr --set batch_size=128
      python -m trainer train $(python -m trainer find-lr)
    """  # noqa: D301 - click wants the character, not a backslash
    given, _ = read_params(file, settings)
    from trainer.tuning.learning_rate import find_learning_rate  # noqa: PLC0415 - the help must not wait

    found = find_learning_rate(given, datadir, lowest=lowest, highest=highest, steps=steps)
    if chart is not None:
        _draw(found, chart)
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    ends = {
        "highest": "all rates were tried",
        "diverged": f"the loss diverged at {found.rates[-1]:.3g}",
    }
    click.echo(f"{len(found.rates)} rates from {found.rates[0]:.3g}; {ends[found.ended]}", err=True)
    click.echo(f"--set learning_rate={found.suggestion:g}")


def _draw(found: LearningRates, path: Path) -> None:
    """Write the curve.

    Raises:
        TrainerError: The file cannot be written.
    """
    from trainer.errors import TrainerError  # noqa: PLC0415
    from trainer.tuning.learning_rate import curve_page  # noqa: PLC0415

    try:
        path.write_text(curve_page(found), encoding="utf-8")
    except OSError as error:
        text = f"--chart {path} cannot be written ({error.strerror}); choose another file"
        raise TrainerError(text) from error


@click.command("find-batch-size")
@data_option
@params_options
@click.option(
    "--memory-gb", type=click.FloatRange(min=0, min_open=True),
    help="What the process may take; now's and 80 % of what is available when not given.",
)  # fmt: skip
@click.option("--from", "first", default=16, show_default=True, help="The smallest size.")
@click.option("--to", "largest", default=4096, show_default=True, help="The largest size.")
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

    A new model takes a few real steps with a batch that doubles, as long as the next one is
    predicted to stay inside the memory budget. No log folder is touched.

    \b
    Examples:
      python -m trainer find-batch-size --memory-gb 4
      python -m trainer train $(python -m trainer find-batch-size)
    """  # noqa: D301 - click wants the character, not a backslash
    given, _ = read_params(file, settings)
    from trainer.tuning.batch_size import find_batch_size as run  # noqa: PLC0415

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
        "images": f"the next size has too few training images; the budget is {budget}",
        "largest": f"the largest size that was asked for is done; the budget is {budget}",
    }[found.ended]
