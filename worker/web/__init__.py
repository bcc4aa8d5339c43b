"""The worker seen from outside: metrics for Prometheus, and health."""
