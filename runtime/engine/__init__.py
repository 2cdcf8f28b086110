"""Rows on their way: one chain each, asks, SQL, limits, contracts."""
