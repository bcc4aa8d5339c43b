"""How a process ended, in words."""

import signal

__all__ = ["how_it_ended"]


def how_it_ended(exitcode: int | None) -> str:
    """Say how a process ended, to be put after its name.

    Args:
        exitcode: Its exit code, minus the number of the signal that ended it, or None.
    """
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode >= 0:
        return f"ended by itself with exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    if -exitcode == signal.SIGKILL:
        name += " (as the system does when memory runs out, or somebody did it by hand)"
    return f"was ended by {name}"
