"""The card of a dataset: README.md with the front matter that the Hugging Face Hub reads.

What stands in it comes from the database, and whoever made that: names of models are what servers
called themselves. They are shown as code, which Markdown takes as it is. Of settings it has none, for
a secret can stand in them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from synthc.compiler import plan
from synthc.runtime.store.history import Asked, Made, Prompt

MARK = "<!-- Made by `synthc export`: it is made anew with the data. -->"
"""A line by which a card of ours is known."""

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
    (10_000_000_000, "1B<n<10B"),
)
_LONGEST = 200
"""Characters of a name that are shown."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A table of the dataset: its name in there, the file it stands in, the rows in that, its columns."""

    table: Made
    name: str
    path: str
    rows: int
    columns: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card tells. `form` is that of the trainer that the data is for, if it is for one."""

    title: str
    plan: plan.Plan | None
    prompts: tuple[Prompt, ...]
    configurations: tuple[Configuration, ...]
    asked: tuple[Asked, ...]
    cost_usd: float | None
    simulated: bool
    license: str | None
    tags: tuple[str, ...]
    form: str | None = None


def card(facts: Facts) -> str:
    """The text of README.md."""
    return "\n".join([*_front_matter(facts), *_text(facts), ""])


def _front_matter(facts: Facts) -> Iterator[str]:
    """YAML, of which JSON is a part: so strings are written."""
    yield "---"
    if facts.license:
        yield f"license: {_quoted(facts.license)}"
    yield f"pretty_name: {_quoted(_plain(facts.title))}"
    yield "tags:"
    for tag in dict.fromkeys(("synthetic", "synthc", *facts.tags)):
        yield f"- {_quoted(tag)}"
    yield "size_categories:"
    yield f"- {_size(sum(c.rows for c in facts.configurations))}"
    yield "configs:"
    for number, configuration in enumerate(facts.configurations):
        yield f"- config_name: {_quoted(configuration.name)}"
        yield "  data_files:"
        yield "  - split: train"
        yield f"    path: {_quoted(configuration.path)}"
        if number == 0 and len(facts.configurations) > 1:
            yield "  default: true"
    yield "---"


def _text(facts: Facts) -> Iterator[str]:
    yield MARK
    yield f"\n# {_code(facts.title)}\n"
    source = f" from {_code(facts.plan.spec)} with the seed {facts.plan.seed}" if facts.plan else ""
    yield f"Synthetic data, made by synthc{source}."
    if facts.simulated:
        yield "\n**The answers are made up: no model was asked, and they mean nothing.**"
    yield f"\nLicence: {_code(facts.license) if facts.license else 'none was given'}."
    if facts.form:
        yield f"The columns are those of the form {_code(facts.form)}."
    yield "\n## Tables\n"
    yield from _table(
        ("table", "rows", "rows in", "kept", "dropped", "failed", "not asked", "state"),
        [_counts(configuration) for configuration in facts.configurations],
    )
    for configuration in facts.configurations:
        yield f"\nColumns of {_code(configuration.name)}:\n"
        yield from _table(("column", "type"), [[*map(_code, c)] for c in configuration.columns])
    yield "\n## Models\n"
    yield from _models(facts)
    if facts.prompts:
        yield "\n## Prompts\n"
        yield "The digests are BLAKE2b's of 16 bytes, of the system prompt and the templates.\n"
        yield from _table(
            ("table", "column", "backend", "digest"),
            [
                (_code(p.table), _code(p.column), _code(p.backend), _code(p.digest))
                for p in facts.prompts
            ],
        )


def _counts(configuration: Configuration) -> Sequence[str]:
    counts = configuration.table.counts
    numbers = (counts.rows_in, counts.kept, counts.dropped, counts.failed, counts.not_asked)
    state = {"done": "complete"}.get(configuration.table.status, configuration.table.status)
    shown = (f"{number:,}" for number in (configuration.rows, *numbers))
    return [_code(configuration.name), *shown, state]


def _models(facts: Facts) -> Iterator[str]:
    if not facts.asked:
        yield "No model was asked."
    else:
        yield from _table(
            ("backend", "model", "calls", "tokens in", "tokens out"),
            [
                (
                    _code(a.backend),
                    _code(_named(a.model)),
                    f"{a.calls:,}",
                    _number(a.input_tokens),
                    _number(a.output_tokens),
                )
                for a in facts.asked
            ],
        )
        calls = sum(a.calls for a in facts.asked)
        into = sum(a.input_tokens or 0 for a in facts.asked)
        out = sum(a.output_tokens or 0 for a in facts.asked)
        cost = "no price was given" if facts.cost_usd is None else f"${facts.cost_usd:,.4f}"
        yield f"\nIn all {calls:,} calls, {into:,} tokens in and {out:,} out; cost: {cost}."
    for embedder in facts.plan.embedders if facts.plan else ():
        model = (
            embedder.model if isinstance(embedder.model, str) else "a model that a variable names"
        )
        yield f"\nEmbedder {_code(embedder.name)}: {_code(_named(model))}, {embedder.dimensions} numbers."


def _number(number: int | None) -> str:
    return "not told" if number is None else f"{number:,}"


# Text of unknown origin


def _named(model: str) -> str:
    """A model's name without what it may say of a machine: of a path the last part, of a URL no user."""
    if "://" in model:
        return re.sub(r"://[^/@\s]*@", "://", model.split("?", maxsplit=1)[0])
    if PurePosixPath(model).is_absolute() or PureWindowsPath(model).is_absolute():
        return PureWindowsPath(model).name
    return model


def _plain(text: str) -> str:
    """Text on one line, cut where it is too long, without what is not shown."""
    line = "".join(c if c.isprintable() else " " for c in text).strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _code(text: str) -> str:
    """Text as Markdown's code, whatever is in it."""
    line = _plain(text) or " "
    fence = "`" * (1 + max(map(len, re.findall(r"`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        # A bar ends a cell, in code too.
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _size(rows: int) -> str:
    return next((name for most, name in _SIZES if rows < most), "10B<n<100B")
