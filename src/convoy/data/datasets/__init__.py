"""Map-style data sets: those of the user, and those of torchvision."""
