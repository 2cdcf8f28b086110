"""The colours of `.synth`, for Pygments: with the SQL and the Jinja that stand in its strings."""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, default, include
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
)

_DECLARED = "param|type|backend|embedder|mutations|task|table|expect|export"
_RESERVED = "in|let|out|ask|sample|sql|repeat|next|when|where|as|using|each"
_WORDS = "system|key|of|extends|weight|tags|times|until|per|n|to|one|given|reply|expect|not|and"
_TYPES = "text|int|float|bool|json|chat|vector|image|audio"
_SQL = (
    "select|from|where|group|by|order|having|limit|offset|join|left|right|inner|outer|full|cross|on|using"
    "|union|all|any|distinct|as|and|or|not|in|is|null|true|false|like|ilike|between|exists"
    r"|case|when|then|else|end|cast|try_cast|over|partition|qualify|asc|desc|nulls\s+(?:first|last)"
    "|with|recursive|values|exclude|replace|filter|unnest|lateral|interval"
)


class SynthLexer(RegexLexer):
    """Tokens of a spec. What cannot stand outside strings is an error token, and so is a newline in a
    string of one line."""

    name = "synth"
    aliases: ClassVar = ["synth"]
    filenames: ClassVar = ["*.synth"]

    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            # What stands in quotes after these words is SQL.
            (r"(sql|where|until)\b(?=\s*\(?\s*\")", Keyword, "before sql"),
            (r"select(?=\()", Keyword, "before sql"),
            (r'"""', String, "long text"),
            (r'"', String, "text"),
            (r"/(?:[^/\\\n]|\\.)+/[a-z]*", String.Regex),
            (r"`[^`\n]+`", Name),
            (r"\$[A-Za-z_]\w*", Name.Variable),
            (
                rf"^({_DECLARED})(\s+)([A-Za-z_]\w*)",
                bygroups(Keyword.Declaration, Whitespace, Name.Class),
            ),
            (r"^(use|test)\b", Keyword.Declaration),
            (r"\|>", Operator, "step"),
            (rf"({_RESERVED})\b", Keyword),
            (r"(true|false|null)\b", Keyword.Constant),
            (rf"(:)(\s*)({_TYPES})\b", bygroups(Punctuation, Whitespace, Keyword.Type)),
            (rf"({_WORDS})\b(?!\s*[=:.,)(])", Keyword),
            (r"-?\d+(\.\d+)?([eE][+-]?\d+)?", Number),
            (r"[A-Za-z_]\w*(?=\()", Name.Function),
            (r"[A-Za-z_]\w*", Name),
            (r"\.\.|==|!=|[|=?]", Operator),
            (r"[(){}\[\]:,.]", Punctuation),
        ],
        # What a step calls.
        "step": [
            (r"\s+", Whitespace),
            (r"(?!(?:sql|where|select)\b)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", Name.Function, "#pop"),
            default("#pop"),
        ],
        "before sql": [
            (r"\s+", Whitespace),
            (r"\(", Punctuation),
            (r'"""', String, ("#pop", "long sql")),
            (r'"', String, ("#pop", "sql")),
            default("#pop"),
        ],
        "jinja": [
            (r"\{#.*?#\}", Comment.Multiline),
            (r"\{\{.*?\}\}|\{%.*?%\}", String.Interpol),
        ],
        "text": [
            (r'"', String, "#pop"),
            (r"\\.", String.Escape),
            include("jinja"),
            (r'[^"\\{\n]+|\{', String),
        ],
        "long text": [
            (r'"""', String, "#pop"),
            include("jinja"),
            (r'[^"{]+|["{]', String),
        ],
        "sql words": [
            (r"--[^\n]*", Comment.Single),
            (r"'(?:[^']|'')*'", String.Single),
            (r"\$[A-Za-z_]\w*", Name.Variable),
            (r"\d+(\.\d+)?([eE][+-]?\d+)?", Number),
            (rf"(?<!\.)(?i:{_SQL})\b", Keyword),
            (r"[A-Za-z_]\w*(?=\()", Name.Function),
            (r"[A-Za-z_]\w*", Name),
        ],
        "sql": [
            (r'"', String, "#pop"),
            (r"\\.", String.Escape),
            include("sql words"),
            (r"[^\n]", Operator),
        ],
        "long sql": [
            (r"\s+", Whitespace),
            (r'"""', String, "#pop"),
            include("sql words"),
            (r".", Operator),
        ],
    }


class SqlLexer(RegexLexer):
    """DuckDB's SQL by itself, in the colours that it has in a spec."""

    name = "DuckDB's SQL"
    aliases: ClassVar = ["sql"]

    tokens: ClassVar = {
        "root": [
            (r"\s+", Whitespace),
            (r'"[^"]*"', Name),
            include("sql words"),
            (r".", Operator),
        ],
        "sql words": SynthLexer.tokens["sql words"],
    }
