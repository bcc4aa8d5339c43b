"""The topics of one deployment, and their creation.

Faust ignores a source topic that does not exist when it subscribes and then consumes
nothing from it, so the topics are there before the worker subscribes.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from worker.errors import BrokerError
from worker.kafka.connection import Connection

__all__ = ["Topics", "create_missing"]

TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Topics:
    """The names of a deployment's topics."""

    images: str
    predictions: str
    control: str
    events: str
    dead_letters: str

    @property
    def names(self) -> list[str]:
        """All names."""
        return [self.images, self.predictions, self.control, self.events, self.dead_letters]

    def partitions(self, n_partitions: int) -> dict[str, int]:
        """Return how many partitions each topic gets.

        Control and events get one, so that commands have one order.
        """
        return {
            self.images: n_partitions,
            self.predictions: n_partitions,
            self.dead_letters: n_partitions,
            self.events: 1,
            self.control: 1,
        }


def create_missing(
    connection: Connection, partitions: Mapping[str, int], replication: int
) -> list[str]:
    """Create the topics that the cluster does not have, and return their names.

    Raises:
        BrokerError: no broker answers, or it refuses to create a topic.
    """
    admin = AdminClient({**connection.for_confluent(), "log_level": 0})
    try:
        present = admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise BrokerError(
            f"KAFKA_HOST: no broker answers at {connection.hosts!r} within {TIMEOUT_S:g} s "
            f"({error.args[0].str()}); start one (scripts/start_kafka.sh) or correct the address"
        ) from error
    missing = [name for name in partitions if name not in present]
    futures = (
        admin.create_topics(
            [NewTopic(name, partitions[name], replication) for name in missing],
            operation_timeout=TIMEOUT_S,
        )
        if missing
        else {}
    )
    return [name for name, future in futures.items() if _was_created(name, future)]


def _was_created(name: str, future: Future[None]) -> bool:
    try:
        future.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False  # another worker was faster
        raise BrokerError(
            f"topic {name!r} is missing and the broker refuses to create it: "
            f"{error.args[0].str()}; create it by hand or correct DARKROOM_REPLICATION"
        ) from error
    return True
