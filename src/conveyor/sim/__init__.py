"""The deterministic simulation: the real workers, schedulers and supervisors in an invented world, replayed by seed."""
