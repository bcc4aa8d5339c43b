"""The contenders of the training benchmark: one process each, one epoch per turn."""
