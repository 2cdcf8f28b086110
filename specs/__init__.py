"""Specs that come with synthc."""
