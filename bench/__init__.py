"""Measurements against the real program: `make bench`."""
