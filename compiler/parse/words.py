"""The words of the language: which start a declaration, which are reserved, which come later."""

from __future__ import annotations

DECLARATIONS = ("param", "backend", "embedder", "task", "table", "export", "test", "type")
RESERVED = frozenset(
    [
        "in",
        "let",
        "out",
        "ask",
        "sample",
        "sql",
        "repeat",
        "next",
        "when",
        "where",
        "as",
        "using",
        "each",
    ]
)

# Words of the language that this version cannot run. Where they stand in a place of their own the
# parser refuses them; steps, sources, types and contracts are read as names, and the checker does.
NOT_YET_DECLARATIONS = ("use", "mutations", "expect", "tags")
NOT_YET_OPTIONS = ("when", "where", "each", "n")
NOT_YET_PRODUCERS = ("sample", "repeat")
NOT_YET_NAMES = frozenset(
    (
        *("unnest", "dedup", "draw", "files", "chat", "image", "audio"),
        *("lines", "sections", "after", "tag", "regex"),
    )
)

FORMS = {
    "read": 'read("file.jsonl")` or `read("file.jsonl", key = id)',
    "rows": "rows(100)",
    "where": 'where("length(question) > 10")',
    "select": 'select("id, question")',
    "limit": "limit(10)",
    "embed": "embed(question) using minilm",
}
"""How the sources and steps that are no tasks are written."""
