"""Studies: search for the values of config keys that give the best network."""
