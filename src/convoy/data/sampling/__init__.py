"""Order of the samples: splits, orders of an epoch, shares of ranks, random numbers."""
