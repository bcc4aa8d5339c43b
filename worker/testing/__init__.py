"""Brokers that need no installation, to try pipelines out and to test them with."""

from worker.testing.embedded_kafka import EmbeddedKafka

__all__ = ["EmbeddedKafka"]
