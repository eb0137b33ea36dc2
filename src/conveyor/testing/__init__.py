"""The shipped test kit: a clock that a test moves, factories, and the suite that every store must pass."""
