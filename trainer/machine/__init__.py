"""What depends on the machine and not on the task."""
