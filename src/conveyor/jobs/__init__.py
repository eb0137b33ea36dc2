"""Jobs: named, typed work carried by messages, whose state, history and result are kept."""
