"""How the worker reaches Kafka: connection, topics, consumer and producer."""
