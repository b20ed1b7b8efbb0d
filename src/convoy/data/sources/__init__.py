"""Readers of published data sets that fit in memory."""
