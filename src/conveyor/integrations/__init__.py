"""Other frameworks' ways to declare and to enqueue, each in a room of its own; each needs its framework, an extra."""
