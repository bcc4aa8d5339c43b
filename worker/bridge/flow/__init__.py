"""What both directions share: how fast, in what order, and the counts."""
