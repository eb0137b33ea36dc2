"""Tests of concierge."""
