"""One training run, from the params to the last checkpoint."""
