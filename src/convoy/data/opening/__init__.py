"""Data sets opened for a run: reading, checks, and the splits train, val and test. One module per kind of source."""
