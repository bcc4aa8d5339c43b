"""How files become batches of images and labels."""
