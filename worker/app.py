"""The one place where the worker is put together, part by part."""

from worker.base import Base
from worker.bridge.part import bridge_part
from worker.control.part import control_part
from worker.images.part import images_part
from worker.runtime.faust_app import WorkerApp
from worker.settings import Settings
from worker.training.part import training_part

__all__ = ["create_app"]


def create_app(settings: Settings) -> WorkerApp:
    """Put a worker together; `faust -A worker worker` runs it."""
    kafka, runtime = settings.kafka, settings.runtime
    base = Base.of(kafka, runtime.logdir)
    images = images_part(settings.serving, base)
    training = training_part(settings.training, base, runtime.stop_timeout_s)
    control = control_part(base, images, training, settings.training.params)
    bridge = bridge_part(settings.bridge, base, (kafka.partitions, kafka.replication))
    return WorkerApp(
        kafka.group,
        runtime,
        broker=base.broker,
        flow=base.flow,
        parts=[base.part, images.part, training.part, control, bridge],
    )
