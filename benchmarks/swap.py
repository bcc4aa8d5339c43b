"""Does a new model lose or delay images under full load?

Commands swap two models; DARKROOM_BENCH_SWAPS shortens a run.
"""

from __future__ import annotations

import shutil

from benchmarks.bench import Benchmark
from benchmarks.settings import setting
from benchmarks.stage import stage
from worker.testing.chaos.swaps import Swaps, swap_under_load, unoptimised_scores
from worker.testing.deployment import LocalDeployment
from worker.testing.models import best_of

N_SWAPS = 50
JOBS = ("first", "second")
MOST_DELAY_MS = 250.0


def measure(bench: Benchmark) -> None:
    """Swap the models, then read the topics."""
    count, per_s = setting("SWAPS", N_SWAPS), setting("PER_S", 5000)
    with stage(*JOBS, n_train=1000) as here:
        checkpoints = {job: str(here.logdir / best_of(job)) for job in JOBS}
        scores = {job: unoptimised_scores(here.images, path) for job, path in checkpoints.items()}
        root = here.folder / "deployment"
        shutil.copytree(here.logdir, root / "logs")
        with LocalDeployment(root, here.kafka.bootstrap) as deployment:
            swaps = swap_under_load(deployment, here.images, scores, count=count, per_s=per_s)
    report(bench, swaps, count)


def report(bench: Benchmark, swaps: Swaps, count: int) -> None:
    """Report how the promises were kept."""
    n_images = len(swaps.account.images)
    bench.row("images while models were swapped", "images", [n_images])
    bench.row("longest time without a prediction, steady", "ms", [swaps.steady_gap_ms])
    bench.row(f"longest time without a prediction, {count} swaps", "ms", [swaps.swap_gap_ms])
    answered = n_images - len(swaps.account.missing)
    bench.ratio("answered over sent", answered / swaps.n_sent, 1.0)
    bench.ratio("answered again", swaps.account.duplicates, 0, at_most=True)
    bench.ratio("delay beyond the steady state, ms", swaps.delay_ms, MOST_DELAY_MS, at_most=True)
    bench.ratio("predictions under a wrong name", swaps.wrong_names, 0, at_most=True)
    bench.ratio(
        "partitions out of the order of the swaps", len(swaps.out_of_order()), 0, at_most=True
    )
    last = sum(order[-1] == count for order in swaps.order.values()) / len(swaps.order)
    bench.ratio("partitions that end with the last model", last, 1.0)
