"""Benchmarks: one file per question, and the peers that Darkroom is measured against."""
