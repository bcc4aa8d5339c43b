"""What runs in a job's own processes, and how they talk to their worker."""
