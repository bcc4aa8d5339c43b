"""The bridge: Kafka topics mirrored to Google Pub/Sub and back, without loss and without loops."""

from worker.bridge.routes import Route, default_routes

__all__ = ["Route", "default_routes"]
