"""The Kafka that the worker talks to: one that runs already, or the embedded one.

The embedded broker lives in the first worker of a log directory and keeps nothing. Its address is
in `broker.json` there, where further workers and the other commands find it.
"""

import logging
from pathlib import Path

from worker.embedded import kafka as embedded_kafka
from worker.kafka.topics import Topics, create_missing
from worker.settings import Settings

__all__ = ["Broker"]

logger = logging.getLogger(__name__)


class Broker:
    """Knows the address of the broker once it is started, and that the topics are there."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self._settings = settings
        self._partitions = topics.partitions(settings.partitions)
        self._embedded: embedded_kafka.EmbeddedKafka | None = None
        self.bootstrap = settings.kafka_host
        """Comma-separated host:port."""

    def start(self) -> None:
        """Find or start the broker, and create the topics that are missing.

        Raises:
            BrokerError: no broker answers, or it refuses to create a topic.
        """
        if self._settings.is_embedded:
            found = embedded_kafka.find(self._settings.logdir)
            self.bootstrap = found or self._start_embedded(self._settings.logdir)
        if self._embedded is None:
            created = create_missing(self.bootstrap, self._partitions, self._settings.replication)
            logger.info("broker=%s created=%s", self.bootstrap, ",".join(created) or "nothing")

    def _start_embedded(self, logdir: Path) -> str:
        self._embedded = embedded_kafka.EmbeddedKafka()
        self._embedded.start()
        for name, partitions in self._partitions.items():
            self._embedded.create_topic(name, partitions)
        embedded_kafka.announce(logdir, self._embedded.bootstrap)
        logger.warning(
            "EMBEDDED BROKER at %s: it is for trying things out and KEEPS NOTHING; "
            "messages are gone when this worker ends. Set KAFKA_HOST to use a real Kafka.",
            self._embedded.bootstrap,
        )
        return self._embedded.bootstrap

    def stop(self) -> None:
        """Stop the broker when it is the embedded one."""
        if self._embedded is not None:
            embedded_kafka.withdraw(self._settings.logdir)
            self._embedded.stop()
            self._embedded = None
