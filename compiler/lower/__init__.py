"""Typed spec → plan: names become slots, tasks become operations."""
