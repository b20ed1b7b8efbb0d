"""Targets with positions in their image, which move with its pixels: masks, key points and images."""
