"""`python -m trainer`: the trainer's command line."""

from trainer.cli import main

if __name__ == "__main__":
    main()
