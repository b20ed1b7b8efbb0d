"""Checks and measurements on a machine with one NVIDIA GPU (`make gpu`)."""
