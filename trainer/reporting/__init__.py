"""The observers of a run, and the files that they write."""
