"""The classifier, and how it computes."""
