"""Pictures and tables from networks and runs."""
