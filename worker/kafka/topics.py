"""The topics of one deployment."""

from dataclasses import dataclass

__all__ = ["Topics"]


@dataclass(frozen=True)
class Topics:
    """The names of a deployment's topics."""

    images: str
    predictions: str
    control: str
    events: str
    dead_letters: str

    @property
    def names(self) -> list[str]:
        """All names."""
        return [self.images, self.predictions, self.control, self.events, self.dead_letters]

    def partitions(self, n_partitions: int) -> dict[str, int]:
        """Return how many partitions each topic gets.

        Control and events get one, so that commands have one order.
        """
        return {
            self.images: n_partitions,
            self.predictions: n_partitions,
            self.dead_letters: n_partitions,
            self.events: 1,
            self.control: 1,
        }
