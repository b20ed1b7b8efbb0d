"""Images of a split that are read while training runs."""
