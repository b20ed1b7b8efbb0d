"""Figures and lists of networks and runs."""
