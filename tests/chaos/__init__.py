"""Faults while clients are at work, a history of what they saw, and a judge of it."""
