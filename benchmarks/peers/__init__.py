"""What Darkroom is measured against: each module is a process, run by `benchmarks.stage`."""
