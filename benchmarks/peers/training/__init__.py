"""Who takes part in the training benchmark, a process each, an epoch a turn."""
