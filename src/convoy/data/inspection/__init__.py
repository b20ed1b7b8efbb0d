"""Facts about the images and targets of a data set, for `convoy data`."""
