"""The applications built on conveyor."""
