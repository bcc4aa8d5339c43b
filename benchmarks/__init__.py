"""Benchmarks: one file a question, and the peers it is measured against."""
