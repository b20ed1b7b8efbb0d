"""Tables with one row per image: CSV, TSV, JSON lines and Parquet."""
