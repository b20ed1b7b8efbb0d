"""Checks of the settings of each source before anything is read."""
