"""What can go wrong in the trainer, in sentences that name the thing, its value and the remedy."""

from collections.abc import Sequence

MOST_FINDINGS = 20


class TrainerError(Exception):
    """Anything that the trainer refuses or cannot do; its text is meant for a person."""


class FindingsError(TrainerError):
    """Several findings in one report; only the first twenty are spelled out in its text.

    Attributes:
        findings: Every finding, a sentence each.
    """

    def __init__(self, heading: str, findings: Sequence[str]) -> None:
        self.heading = heading
        self.findings = tuple(findings)
        lines = [f"  - {finding}" for finding in self.findings[:MOST_FINDINGS]]
        if len(self.findings) > MOST_FINDINGS:
            lines.append(f"  ... and {len(self.findings) - MOST_FINDINGS} more")
        super().__init__("\n".join([f"{heading}:", *lines]))

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        """Pickle by the two arguments, so that the error crosses a process border."""
        return type(self), (self.heading, self.findings)


class ParamsError(FindingsError):
    """Wrong params: every wrong key or value, with what is allowed."""


class DataError(FindingsError):
    """Bad data: every missing, broken or odd file and label that was found."""


class CheckpointError(TrainerError):
    """A checkpoint that is missing, damaged, of another kind, or carries code."""


class DivergedError(TrainerError):
    """Training produced non-finite losses or gradients too many times in a row."""
