"""The words: what a message, a lease, a verdict and an error are. No I/O, and no room above is known here."""
