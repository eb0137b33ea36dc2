"""The simulation, and its list of seeded bugs."""
