"""Brokers that need no installation, to try pipelines out and to test them with."""

from worker.embedded.kafka import EmbeddedKafka

__all__ = ["EmbeddedKafka"]
