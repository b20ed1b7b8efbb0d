"""HTML pages of runs and sweeps: one file each, which opens offline and sends no request."""
