"""The runtime: a plan becomes rows in DuckDB."""
