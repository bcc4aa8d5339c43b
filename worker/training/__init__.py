"""Jobs: recorded on disk, run one at a time per kind, each in a process of its own."""
