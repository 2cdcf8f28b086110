"""The language server: what an editor asks of a spec while it is written."""
