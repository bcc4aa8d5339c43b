"""An image-classification worker for streams."""
