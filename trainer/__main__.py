"""`python -m trainer`: the trainer's command line."""

import atexit
import gc

# What is left at the end goes with the process: to look for garbage in it takes half a second.
atexit.register(gc.freeze)
# Importing torch makes 300,000 objects that stay; looking through them again and again takes 1 s.
gc.set_threshold(100_000, 50, 1000)

from trainer.cli import main  # noqa: E402 - after the threshold

if __name__ == "__main__":
    main()
