"""A day of one PostgreSQL store: what is sent, who handles it, and what the store looks like meanwhile."""
