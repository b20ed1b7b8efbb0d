"""Networks built from the `model` group: checks, weights, frozen layers, activation checkpointing."""
