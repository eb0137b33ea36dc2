"""Work by the clock: expressions, and the scheduler that turns due ticks into messages, once."""
