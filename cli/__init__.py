"""The synthc command."""
