"""Everything to test a deployment with: brokers, workers, clients, faults, and an account.

`import worker.testing` is cheap: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.embedded.kafka import EmbeddedKafka
    from worker.testing.chaos.account import Account, Answer
    from worker.testing.chaos.faults import keep_alive, kills, supervise, terminations, visits
    from worker.testing.chaos.image_load import ImageLoad
    from worker.testing.chaos.offset_watch import OffsetWatch, wait_until_answered
    from worker.testing.chaos.ordeal import Verdict, ordeal
    from worker.testing.clients.stream_client import Answers, StreamClient
    from worker.testing.clients.topic_reader import Record, TopicReader
    from worker.testing.deployment import LocalDeployment
    from worker.testing.digits import write_digits
    from worker.testing.fake_pubsub import FakePubSub
    from worker.testing.labelled_images import LabelledImages
    from worker.testing.models import QUICK_PARAMS, best_of, deploy, train_models
    from worker.testing.programs.brokers import BrokerUnavailable, PubSubEmulator, RealKafka
    from worker.testing.programs.processes import free_port
    from worker.testing.programs.waiting import wait_until
    from worker.testing.programs.worker_process import WorkerEndedError, WorkerProcess

__all__ = [
    "QUICK_PARAMS",
    "Account",
    "Answer",
    "Answers",
    "BrokerUnavailable",
    "EmbeddedKafka",
    "FakePubSub",
    "ImageLoad",
    "LabelledImages",
    "LocalDeployment",
    "OffsetWatch",
    "PubSubEmulator",
    "RealKafka",
    "Record",
    "StreamClient",
    "TopicReader",
    "Verdict",
    "WorkerEndedError",
    "WorkerProcess",
    "best_of",
    "deploy",
    "free_port",
    "keep_alive",
    "kills",
    "ordeal",
    "supervise",
    "terminations",
    "train_models",
    "visits",
    "wait_until",
    "wait_until_answered",
    "write_digits",
]

_HOMES = {
    "worker.embedded.kafka": ("EmbeddedKafka",),
    "worker.testing.programs.brokers": ("BrokerUnavailable", "PubSubEmulator", "RealKafka"),
    "worker.testing.chaos.account": ("Account", "Answer"),
    "worker.testing.chaos.faults": (
        "keep_alive",
        "kills",
        "supervise",
        "terminations",
        "visits",
    ),
    "worker.testing.chaos.image_load": ("ImageLoad",),
    "worker.testing.chaos.offset_watch": ("OffsetWatch", "wait_until_answered"),
    "worker.testing.chaos.ordeal": ("Verdict", "ordeal"),
    "worker.testing.deployment": ("LocalDeployment",),
    "worker.testing.digits": ("write_digits",),
    "worker.testing.fake_pubsub": ("FakePubSub",),
    "worker.testing.labelled_images": ("LabelledImages",),
    "worker.testing.models": ("QUICK_PARAMS", "best_of", "deploy", "train_models"),
    "worker.testing.programs.processes": ("free_port",),
    "worker.testing.clients.stream_client": ("Answers", "StreamClient"),
    "worker.testing.clients.topic_reader": ("Record", "TopicReader"),
    "worker.testing.programs.waiting": ("wait_until",),
    "worker.testing.programs.worker_process": ("WorkerEndedError", "WorkerProcess"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
