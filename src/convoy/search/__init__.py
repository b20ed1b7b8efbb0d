"""Sweeps over given values, and studies that search for the values of config keys that give the best network."""
