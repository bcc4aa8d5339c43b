"""One checkpoint file, its folder, and what can be done with it."""
