"""Classifying images, as a part of the worker."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.base import Base
from worker.images.agent import images_agent
from worker.images.deployment import Deployment
from worker.images.metrics import ServingMetrics
from worker.images.pipeline import CLASSIFIERS, Pipeline
from worker.images.predictor import Predictor
from worker.images.settings import ServingSettings
from worker.part import Agent, Part
from worker.runtime.metrics import gauge

if TYPE_CHECKING:
    from worker.images.model import Model

__all__ = ["Images", "images_part"]


@dataclass(frozen=True)
class Images:
    """The part, and what others do with the served model."""

    part: Part
    deployment: Deployment


def images_part(settings: ServingSettings, base: Base) -> Images:
    """Return the pipeline from the images topic to the predictions topic."""
    images = base.topics.images
    predictor = Predictor(on_first_model=partial(base.flow.release, images))
    threads = max(1, settings.threads // CLASSIFIERS)
    deployment = Deployment(base.logdir, predictor, load=partial(load_model, threads))
    metrics = ServingMetrics()
    pipeline = Pipeline(predictor, base.publisher, base.topics, metrics, settings)
    partitions = partial(base.flow.partitions_of, images)
    part = Part(
        services=[pipeline],
        agents=[Agent("images", images, images_agent(pipeline))],
        watched={pipeline.problem: 0.0},
        readiness=[deployment.problem],
        details={"partitions": partitions, **deployment_details(deployment)},
        collectors=[
            *metrics.collectors,
            gauge("lag", "Messages not done yet.", "partition", partial(base.flow.lag_of, images)),
            gauge("model", "1 for the deployed model.", "sha256", deployment.as_metric),
        ],
    )
    return Images(part, deployment)


def deployment_details(deployment: Deployment) -> Mapping[str, Any]:
    """Return what `/health` shows of the served model."""

    def model() -> dict[str, Any] | None:
        return deployment.current.model_dump() if deployment.current else None

    return {"deployment": lambda: deployment.state, "model": model}


def load_model(threads: int, path: Path, job: str) -> "Model":
    """Load a model; torch is imported with the first one, so that a worker starts at once."""
    from worker.images.model import load_model as load  # noqa: PLC0415

    return load(path, job, threads=threads)
