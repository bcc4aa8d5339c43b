"""The trainer's errors; their texts name the thing, its value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CheckpointError",
    "DataError",
    "DivergedError",
    "FindingsError",
    "ParamsError",
    "TrainerError",
]

MOST_FINDINGS = 20


class TrainerError(Exception):
    """The base of all errors of the trainer; the text is for people to read."""


class FindingsError(TrainerError):
    """Several findings in one error; its text has the first twenty.

    Attributes:
        heading: The first line of the text.
        findings: All findings, one sentence each.
    """

    def __init__(self, heading: str, findings: Sequence[str]) -> None:
        self.heading = heading
        self.findings = tuple(findings)
        lines = [f"  - {finding}" for finding in self.findings[:MOST_FINDINGS]]
        if len(self.findings) > MOST_FINDINGS:
            lines.append(f"  ... and {len(self.findings) - MOST_FINDINGS} more")
        super().__init__("\n".join([f"{heading}:", *lines]))

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        """Pickle the two arguments, so that the error can be sent to another process."""
        return type(self), (self.heading, self.findings)


class ParamsError(FindingsError):
    """Wrong params: every wrong key and value, and what is allowed."""


class DataError(FindingsError):
    """Bad data: every missing or broken file and wrong label that was found."""


class ImageError(TrainerError):
    """Bytes that are not an image, or an image that cannot be used; its text names the image."""


class TooManyPixelsError(ImageError):
    """An image that declares more pixels than are decoded."""


class OtherSizeError(ImageError):
    """An image of another size than the model's, where images are not resized.

    Attributes:
        height: In pixels.
        width: In pixels.
    """

    def __init__(self, name: object, size: tuple[int, int], expected: tuple[int, int]) -> None:
        self.height, self.width = size
        height, width = expected
        text = f"{name} has {self.width}x{self.height} pixels, not {width}x{height}"
        super().__init__(f"{text}; set resize_images=true to resize it")


class CheckpointError(TrainerError):
    """A checkpoint that is missing or damaged, does not fit, or contains code."""


class DivergedError(TrainerError):
    """Too many training steps in a row had a loss or gradient that is not finite."""
