"""`python -m trainer params` and `python -m trainer inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from trainer.cli.group import params_options
from trainer.params.files import read_params

__all__ = ["inspect", "params"]


@click.command(short_help="Print all params with their values.")
@params_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the params as JSON, for a params file."
)
def params(*, file: Path | None, settings: tuple[str, ...], as_json: bool) -> None:
    """Print all params with their values, and where each value comes from."""
    given, sources = read_params(file, settings)
    from trainer.params.params import Params  # noqa: PLC0415 - importing torch takes seconds

    effective = Params.validate_all(given).as_json()
    if as_json:
        click.echo(json.dumps(effective, indent=2))
        return
    for key, value in effective.items():
        click.echo(f"{key} = {_short(value)}  ({sources.get(key, 'default')})")
        click.echo(f"    {Params.model_fields[key].description}")


@click.command(short_help="Check a checkpoint and print what it holds.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(*, checkpoint: Path, as_json: bool) -> None:
    """Check CHECKPOINT, and print its params, metrics, classes and versions."""
    from trainer.checkpoints.checkpoint import load_checkpoint  # noqa: PLC0415 - importing torch takes seconds

    loaded = load_checkpoint(checkpoint)
    weights = sum(tensor.numel() for tensor in loaded.content["model"].values())
    found: dict[str, Any] = {
        "path": str(loaded.path),
        "sha256": loaded.sha256,
        "position": loaded.content["position"],
        "weights": weights,
        "class_names": loaded.class_names,
        "metrics": loaded.metrics,
        "versions": loaded.versions,
        "params": loaded.content["params"],
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    for key, value in found.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for name, one in value.items():
                click.echo(f"    {name} = {_short(one)}")
        else:
            click.echo(f"{key}: {_short(value)}")


def _short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
