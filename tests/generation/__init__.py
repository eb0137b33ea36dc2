"""Tests of apps/generation from outside."""
