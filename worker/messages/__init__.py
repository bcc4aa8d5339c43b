"""The messages on the control and events topics."""
