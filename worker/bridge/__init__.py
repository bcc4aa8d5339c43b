"""The bridge: Kafka topics mirrored to Google Pub/Sub and back, without loss and without loops."""

from worker.bridge.routes import Route, default_routes
from worker.bridge.service import Bridge, bridge_services

__all__ = ["Bridge", "Route", "bridge_services", "default_routes"]
