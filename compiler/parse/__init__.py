"""Text → AST."""
