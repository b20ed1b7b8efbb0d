"""Parts of `convoy submit`."""
