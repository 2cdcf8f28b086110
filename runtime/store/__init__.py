"""The database: what a run reads, writes and remembers."""
