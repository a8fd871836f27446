"""Constant load for as long as one likes: what must stay flat, and a picture of it."""
