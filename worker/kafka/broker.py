"""The Kafka that the worker talks to: one that runs already, or the embedded one.

Faust ignores a source topic that does not exist when it subscribes and then consumes
nothing from it, so the topics are there before the worker subscribes.

The embedded broker lives in the first worker of a log directory and keeps nothing. Its address is
in `broker.json` there, where further workers and the other commands find it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from worker.embedded import kafka as embedded_kafka
from worker.kafka.cluster import Cluster
from worker.kafka.connection import Connection
from worker.kafka.permissions import Permission

__all__ = ["Broker"]

logger = logging.getLogger(__name__)


class Broker:
    """Knows how to reach the broker once it is started, and that the topics are there.

    Args:
        connection: How to reach the broker, as it was set.
        partitions: How many partitions each topic gets that is missing, by its name.
        replication: Replication factor of a topic that is missing.
        logdir: Where the address of the embedded broker is announced.
        permissions: What the user of the connection has to be allowed to do.
    """

    def __init__(
        self,
        connection: Connection,
        partitions: Mapping[str, int] = MappingProxyType({}),
        replication: int = 1,
        logdir: Path = Path(),
        permissions: Sequence[Permission] = (),
    ) -> None:
        self._connection = connection
        self._partitions = partitions
        self._replication = replication
        self._logdir = logdir
        self._permissions = permissions
        self._embedded: embedded_kafka.EmbeddedKafka | None = None

    @property
    def connection(self) -> Connection:
        """How to reach the broker; of the embedded one only when it is started."""
        return self._connection

    def start(self) -> None:
        """Find or start the broker, and create the topics that are missing.

        Raises:
            BrokerError: no broker answers, or it refuses what the worker cannot do without.
        """
        if self._connection.is_embedded:
            found = embedded_kafka.find(self._logdir)
            hosts = found or self._start_embedded()
            self._connection = replace(self._connection, hosts=hosts)
        if self._embedded is None:
            with Cluster.connect(self._connection) as cluster:
                created = cluster.prepare(self._permissions, self._partitions, self._replication)
            names = ",".join(created) or "nothing"
            logger.info("broker=%s created=%s", self._connection.hosts, names)

    def _start_embedded(self) -> str:
        self._embedded = embedded_kafka.EmbeddedKafka()
        self._embedded.start()
        for name, partitions in self._partitions.items():
            self._embedded.create_topic(name, partitions)
        embedded_kafka.announce(self._logdir, self._embedded.bootstrap)
        logger.warning(
            "EMBEDDED BROKER at %s: it is for trying things out and KEEPS NOTHING; "
            "messages are gone when this worker ends. Set KAFKA_HOST to use a real Kafka.",
            self._embedded.bootstrap,
        )
        return self._embedded.bootstrap

    def stop(self) -> None:
        """Stop the broker when it is the embedded one."""
        if self._embedded is not None:
            embedded_kafka.withdraw(self._logdir)
            self._embedded.stop()
            self._embedded = None
