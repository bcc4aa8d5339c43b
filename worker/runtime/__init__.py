"""What the worker runs in: the Faust app, its watchdog, checks, health and metrics."""
