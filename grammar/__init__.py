"""The grammar of the language, and nothing else that parses."""
