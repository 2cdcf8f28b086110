"""What a table is made of, as a digest: equal fingerprints mean that it need not be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from synthc.compiler import plan
from synthc.runtime.errors import RunError
from synthc.runtime.ops import drawn_from, every, models
from synthc.runtime.store.lines import digest_of_lines
from synthc.runtime.store.source import digest_of, digest_of_names, files_of

_encoder = msgspec.json.Encoder(order="deterministic")


Content = plan.Read | plan.Files | plan.Lines


def content_of(base: Path, lines: Mapping[str, Sequence[str]]) -> Callable[[Content], str]:
    """What gives the digest of what files hold now; `lines` are those of the files that are drawn from."""

    def content(source: Content) -> str:
        match source:
            case plan.Read():
                return digest_of(files_of(source, base))
            case plan.Files():
                return digest_of_names(source, base)
            case plan.Lines(path):
                return digest_of_lines(lines[path])

    return content


def fingerprints(
    plan_: plan.Plan, content: Callable[[Content], str], models_: dict[str, str]
) -> dict[str, str]:
    """The fingerprint of each table, in hexadecimal.

    `content` gives the digest of what files hold, `models_` what each backend and embedder is by now.
    Where things stand in the spec is no part of it: a new comment makes nothing stale. Raises RunError
    where a table needs what the plan does not have, or not before it.
    """
    found: dict[str, str] = {}
    for table in plan_.tables:
        needs = {*parents(table), *models(table.ops)}
        if missing := sorted(needs - found.keys() - models_.keys()):
            raise RunError(
                f"the plan is broken: `{table.name}` needs `{missing[0]}`",
                hint="compile the spec again",
                span=table.span,
            )
        made_of = [found[name] for name in parents(table)]
        if isinstance(table.source, plan.Read | plan.Files):
            made_of.append(content(table.source))
        made_of += [
            content(op.source)
            for op in every(table.ops)
            if isinstance(op, plan.Sample) and isinstance(op.source, plan.Lines)
        ]
        used = [models_[name] for name in models(table.ops)]
        parts = (plan_.seed, made_of, used, without_places(msgspec.to_builtins(table)))
        found[table.name] = hashlib.blake2b(_encoder.encode(parts), digest_size=16).hexdigest()
    return found


def parents(table: plan.Table) -> tuple[str, ...]:
    """The tables that have to be there before a table is made."""
    drawn = drawn_from(table.ops)
    match table.source:
        case plan.From(_, name):
            return (name, *drawn)
        case plan.Query(tables=names):
            return (*names, *drawn)
        case plan.Read() | plan.Rows() | plan.Files():
            return drawn


def without_places(value: Any) -> Any:
    """Built-in values of a plan, without where in its spec something stands."""
    if isinstance(value, dict):
        return {
            key: without_places(part)
            for key, part in value.items()
            if key != "span" or not isinstance(part, list | tuple)  # a column can have that name
        }
    if isinstance(value, list | tuple):
        return [without_places(part) for part in value]
    return value
