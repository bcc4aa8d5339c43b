"""The Python code of the commands in this folder; it is not installed."""
