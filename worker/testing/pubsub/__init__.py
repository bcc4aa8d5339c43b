"""What the fake Pub/Sub keeps, and the faults that it can be told to have."""
