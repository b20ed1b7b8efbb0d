"""Sweeps: the points of a command line with several values per key."""
