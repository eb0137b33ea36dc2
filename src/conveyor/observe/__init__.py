"""What the operator sees of events: here alone they become sentences."""
