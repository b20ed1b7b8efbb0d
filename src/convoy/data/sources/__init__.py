"""The sets that live in memory: where their files lie and how they are read."""
