"""Convoy: a declarative, YAML-driven training pipeline for convolutional networks."""

__version__ = "0.1.0"
