"""Is every image answered although workers and brokers die?

Kills, broker stops, rebalances and SIGTERM under load, on a real Kafka; afterwards the answers in
the topics are counted by id. DARKROOM_BENCH_KILLS, DARKROOM_BENCH_STOPS
and DARKROOM_BENCH_SECONDS (of a broker stop) shorten a run.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench import Benchmark
from benchmarks.settings import setting
from worker.testing.chaos.faults import (
    Faults,
    kills,
    supervise,
    supervise_until_serving,
    terminations,
    visits,
    wait_until_serving,
)
from worker.testing.chaos.ordeal import IN_FLIGHT, Verdict, ordeal
from worker.testing.deployment import LocalDeployment
from worker.testing.digits import write_digits
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import train_models
from worker.testing.programs.brokers import RealKafka

PER_S = 500.0
N_WORKERS = 3
N_AFTER_A_STOP = int(10 * PER_S)


def measure(bench: Benchmark) -> None:
    """Run each ordeal on new topics, and report which images were answered."""
    n_kills, n_stops = setting("KILLS", 100), setting("STOPS", 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "data", 1000, 200)
        train_models(folder)
        images = LabelledImages.read(folder / "data" / "test").images
        with RealKafka(folder) as kafka:
            ordeals: dict[str, Faults] = {
                f"{n_kills} kills": kills(n_kills, (0.0, 8.0), seed=100),
                f"{n_stops} broker stops": broker_stops(kafka, n_stops, setting("SECONDS", 30)),
                "12 rebalances": visits(6),
                "6 SIGTERMs": terminations(6, []),
            }
            verdicts = {}
            for what, faults in ordeals.items():
                root = folder / what.replace(" ", "-")
                shutil.copytree(folder / "logs", root / "logs")
                with LocalDeployment(root, kafka.bootstrap) as deployment:
                    verdicts[what] = ordeal(
                        deployment, images, per_s=PER_S, n_workers=N_WORKERS, faults=faults
                    )
                print(f"{what}: {verdicts[what].problems or 'no problem'}", file=sys.stderr)
            report(bench, verdicts, n_kills)


def report(bench: Benchmark, verdicts: dict[str, Verdict], n_kills: int) -> None:
    """Report duplicates and ratios."""
    for what, verdict in verdicts.items():
        bench.row(f"{what}: images", "images", [len(verdict.account.images)])
        bench.row(f"{what}: answered again", "images", [verdict.account.duplicates])
        bench.ratio(f"answered over sent, {what}", verdict.answered_over_sent, 1.0)
        bench.ratio(f"broken promises, {what}", len(verdict.problems), 0, at_most=True)
    again = {what: verdict.account.duplicates for what, verdict in verdicts.items()}
    a_kill = again[f"{n_kills} kills"] / max(1, n_kills)
    bench.ratio(
        "answered again over images in flight, per kill", a_kill / IN_FLIGHT, 1, at_most=True
    )
    for what in ("12 rebalances", "6 SIGTERMs"):
        bench.ratio(f"answered again, {what}", again[what], 0, at_most=True)
    sent = sum(len(verdict.account.images) for verdict in verdicts.values())
    missing = sum(len(verdict.account.missing) for verdict in verdicts.values())
    bench.ratio("answered over sent", 1 - missing / sent, 1.0)


def broker_stops(kafka: RealKafka, count: int, seconds: float) -> Faults:
    """Stop and start the broker `count` times; restart workers that end."""

    def faults(deployment: LocalDeployment) -> None:
        for _ in range(count):
            wait_until_serving(deployment)
            kafka.stop()
            supervise_for(deployment, seconds)
            kafka.start()
            supervise_until_serving(deployment, N_AFTER_A_STOP)

    return faults


def supervise_for(deployment: LocalDeployment, seconds: float) -> None:
    """Restart workers that end, for some seconds."""
    end = time.monotonic() + seconds
    supervise(deployment, lambda: time.monotonic() > end, timeout_s=2 * seconds)
