"""Packed sets: images in a few large files with an index, read in sequence."""
