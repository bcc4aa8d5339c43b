"""Train and evaluate image classifiers."""
