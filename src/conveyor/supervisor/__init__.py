"""`conveyor work`: a process that runs no user code, starts workers that do, renews their leases and sees them die."""
