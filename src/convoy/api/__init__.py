"""The functions of the Python API, which `convoy` imports lazily."""
