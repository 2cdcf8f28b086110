"""The compiler: the text of a spec becomes diagnostics and a plan."""
