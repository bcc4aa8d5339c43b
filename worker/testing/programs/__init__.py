"""Programs that a test starts and ends: brokers, workers, bridges."""
