"""The bridge's ways into and out of Kafka."""
