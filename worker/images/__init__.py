"""From image messages to predictions: decode, model, produce, acknowledge."""
