"""Lists of image files, from folders and text files. Imports neither torch nor NumPy."""
