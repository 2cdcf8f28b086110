"""The words of the language: which start a declaration, which are reserved, how things are written."""

from __future__ import annotations

DECLARATIONS = (
    "use",
    "param",
    "type",
    "backend",
    "embedder",
    "mutations",
    "task",
    "table",
    "expect",
    "export",
    "test",
)
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
CONTEXTUAL = (
    *("to", "system", "key", "of", "extends", "given", "reply", "weight", "tags", "times"),
    *("until", "per", "n"),
)
"""Words that are keywords only where they can be nothing else, besides those of declarations."""

PRODUCERS = ("ask", "sample", "sql", "repeat")
"""The words that make a column."""

FORMS = {
    "read": 'read("file.jsonl")` or `read("file.jsonl", key = id, types = {day: text})',
    "rows": "rows(100)",
    "files": 'files("pictures/*.jpg")',
    "where": 'where("length(question) > 10")',
    "select": 'select("id, question")',
    "limit": "limit(10)` or `limit(10, per = label)",
    "unnest": "unnest(topics as topic)` or `unnest(questions as question, answers as answer)",
    "dedup": "dedup(question)` or `dedup(embedding, similar = 0.95)",
    "draw": "draw(3, from = examples) as shots",
    "embed": "embed(question) using minilm",
}
"""How the sources and steps that are no tasks are written."""

SOURCES = ("read", "rows", "files")
"""Those of FORMS that are sources."""

CONTRACTS = {
    "text": "as text",
    "json": "as json",
    "after": 'as after("Prompt:")',
    "tag": 'as tag("answer")',
    "sections": 'as sections(good = "## Good", bad = "## Bad")',
    "regex": r"as regex(/score: (?P<score>\d+)/i)",
    "lines": r"as lines(/\[(?P<index>\d+)\] (?P<value>.+)/) per questions",
}
"""How the contracts are written."""

SAMPLES = {
    "uniform": "sample uniform(0, 1)",
    "normal": "sample normal(0, 1)",
    "poisson": "sample poisson(3)",
    "lines": 'sample lines("words.txt")',
}
"""How draws that are not from written choices are written."""
