"""`python -m benchmarks NAME [--json]`: run one benchmark of this folder."""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path

import click

from benchmarks.bench import Benchmark

folder = Path(__file__).parent


def questions() -> dict[str, str]:
    """Return each benchmark's name and the question that it answers, its docstring's first line.

    The files are not imported: a peer of another benchmark may be missing.
    """
    found = {}
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if "measure" in names:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def listing() -> str:
    """Return the benchmarks, one per line."""
    found = questions()
    if not found:
        return "  (none yet)"
    width = max(map(len, found))
    return "\n".join(f"  {name:{width}}  {question}" for name, question in found.items())


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
def main(name: str | None, *, as_json: bool) -> None:
    """Run the benchmark NAME and print its table: medians, ranges, ratios and their targets."""
    if name is None or name not in questions():
        wrong = "Which benchmark?" if name is None else f"There is no benchmark {name!r}."
        raise click.UsageError(f"{wrong} There are:\n{listing()}")
    bench = Benchmark(name)
    importlib.import_module(f"benchmarks.{name}").measure(bench)
    click.echo(bench.table())
    if as_json:
        click.echo(json.dumps(bench.as_json()))


if __name__ == "__main__":
    main(prog_name="scripts/bench")
