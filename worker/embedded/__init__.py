"""The embedded Kafka, which is the default broker."""
