"""One checkpoint file, its folder, and its uses: evaluation, prediction, export."""
