"""Batches: read and augmented ahead of training, and copied to the device."""
