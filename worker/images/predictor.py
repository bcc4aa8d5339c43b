"""The model that answers now. A new one takes its place between two batches."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.errors import WorkerError

if TYPE_CHECKING:  # the model brings torch, which a worker without one starts without
    from worker.images.model import Model

__all__ = ["Predictor"]


class Predictor:
    """Holds one model, or none yet."""

    def __init__(self, *, on_first_model: Callable[[], None]) -> None:
        self._on_first_model = on_first_model
        self._model: Model | None = None

    @property
    def model(self) -> "Model":
        """The model for the next batch.

        Raises:
            WorkerError: there is none; images are held back until there is one.
        """
        if self._model is None:
            raise WorkerError("images were delivered before there is a model to classify them")
        return self._model

    def swap(self, model: "Model") -> None:
        """Let the next batch be answered by this model; the batches in hand keep theirs."""
        is_first = self._model is None
        self._model = model
        if is_first:
            self._on_first_model()
