"""What to choose: batch size, learning rate, and an estimate over folds."""
