"""generation: video generation jobs on conveyor, dispatched in four ways, and webhooks that arrive."""
