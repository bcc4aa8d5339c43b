"""What is said on the control and events topics."""
