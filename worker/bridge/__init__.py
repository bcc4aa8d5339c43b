"""The bridge: Kafka topics mirrored to Google Pub/Sub and back, without loss and without loops."""
