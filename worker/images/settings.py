"""What can be set on classifying images."""

import os
from typing import Annotated

from pydantic import Field, PositiveInt

from worker.section import Section, variable

__all__ = ["ServingSettings"]


class ServingSettings(Section):
    """Limits of what is classified, and how it is batched."""

    max_image_bytes: PositiveInt = variable("DARKROOM_MAX_IMAGE_BYTES", 8 * 1024 * 1024)
    """Maximum size of one message."""
    max_image_pixels: PositiveInt = variable("DARKROOM_MAX_IMAGE_PIXELS", 16_000_000)
    """Maximum height times width of one image, and in sum of the images of one message."""
    batch_size: PositiveInt = variable("DARKROOM_SERVING_BATCH_SIZE", 256)
    """Maximum number of images in one forward pass."""
    max_batch_wait_s: Annotated[float, Field(ge=0)] = variable("DARKROOM_SERVING_WITHIN_S", 0.0)
    """How long a batch that is not full waits for more images."""
    threads: PositiveInt = variable("DARKROOM_SERVING_THREADS", factory=lambda: os.cpu_count() or 2)
    """Threads of the processor for the model."""
    top_k: PositiveInt = variable("DARKROOM_TOP_K", 3)
    """Classes that a prediction lists."""
