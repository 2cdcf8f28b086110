"""AST → typed spec: names, types, prompts and SQL."""
