"""Cutmv, the way its users and its attackers meet it."""
