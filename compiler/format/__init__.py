"""Text → the same spec in the one layout."""
